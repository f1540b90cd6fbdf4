/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * audit.c
 *		audit_store: rows of vault.audit_log, from the canonical bytes of records.
 *
 * They go into the table as COPY's do, many at a time, with its triggers and
 * constraints; but what COPY would be given as text or in its binary format to be taken
 * apart again is put into the rows at once. What a node has hashed is what it sends
 * (docs/AUDIT.md, "Record"), each record with its hash behind: nothing of it is judged
 * here but that it is whole and in its place.
 */
#include "vault.h"

#include <sys/socket.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "datatype/timestamp.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(vault_audit_store);

#define HASH_LEN 32
#define EPOCH_USECS ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* So many rows go into the table together, which is a page or ten. */
#define ROWS 256

/* In the order of a record's fields; prev_hash and hash are behind them. */
static const struct
{
	const char *name;
	Oid			type;
}			columns[] = {
	{"node_id", UUIDOID}, {"seq", INT8OID}, {"at", TIMESTAMPTZOID}, {"actor", TEXTOID}, {"session_role", TEXTOID},
	{"client_ip", INETOID}, {"face", TEXTOID}, {"database", TEXTOID}, {"action", TEXTOID}, {"secret_name", TEXTOID},
	{"version", INT4OID}, {"outcome", TEXTOID}, {"direct", BOOLOID}, {"reason", TEXTOID}, {"change", INT8OID},
	{"statement", INT8OID}, {"prev_hash", BYTEAOID}, {"hash", BYTEAOID}
};

/* The records that are left, and the row that the next one goes to. */
typedef struct Source
{
	uint8	   *next;
	uint8	   *end;
	uint8	   *prev;			/* the hash before */
	const pg_uuid_t *node;
	int64		seq;			/* of the next record */
	AttrNumber	at[lengthof(columns)];	/* where the table has the columns */
	ExprState **defaults;		/* of each column of the table; NULL: it has none, or is one of these */
	ExprContext *context;		/* for those */
	TupleTableSlot *row;
	int			column;			/* the next one */
} Source;

VAULT_NORETURN static void
no_batch(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("this is no batch of audit records"),
			 errhint("It has at most 10000 records, each with all columns, and the head that is signed over the last.")));
}

/* The next field, of some length in these bounds. */
static VaultBytes
field(Source *source, size_t min, size_t max)
{
	VaultBytes	f;
	uint32		len;

	if (source->end - source->next < 4)
		no_batch();
	memcpy(&len, source->next, 4);
	len = pg_ntoh32(len);
	source->next += 4;
	if (len < min || len > max || len > (size_t) (source->end - source->next))
		no_batch();
	f.data = source->next;
	f.len = (int) len;
	source->next += len;
	return f;
}

static uint64
number(Source *source, size_t size)
{
	VaultBytes	f = field(source, size, size);
	uint64		n = 0;

	for (int i = 0; i < f.len; i++)
		n = n << 8 | f.data[i];
	return n;
}

/* Where the table has the columns; somebody may have changed it. */
static void
find_columns(Source *source, Relation rel)
{
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		source->at[i] = get_attnum(RelationGetRelid(rel), columns[i].name);
		if (source->at[i] <= 0 || TupleDescAttr(RelationGetDescr(rel), source->at[i] - 1)->atttypid != columns[i].type)
			elog(ERROR, "vault.audit_log has no column %s of its type", columns[i].name);
	}
}

/* The defaults of columns that somebody has added: COPY would fill them in, too. */
static void
find_defaults(Source *source, Relation rel, EState *estate)
{
	TupleDesc	desc = RelationGetDescr(rel);

	source->context = GetPerTupleExprContext(estate);
	source->defaults = palloc0(desc->natts * sizeof(ExprState *));
	for (int i = 0; i < desc->natts; i++)
	{
		Node	   *value;
		bool		none = TupleDescAttr(desc, i)->attisdropped || TupleDescAttr(desc, i)->attgenerated != 0;

		for (int c = 0; c < (int) lengthof(columns); c++)
			none = none || source->at[c] == i + 1;
		if (!none && (value = build_column_default(rel, i + 1)) != NULL)
			source->defaults[i] = ExecPrepareExpr((Expr *) value, estate);
	}
}

/* The next column; one that is not put stays NULL. */
static void
put(Source *source, Datum value)
{
	int			i = source->at[source->column++] - 1;

	source->row->tts_values[i] = value;
	source->row->tts_isnull[i] = false;
}

static void
put_null(Source *source)
{
	source->column++;
}

/*
 * Bytes as they stand among the records: before each is a byte that was read already,
 * and may be a short header. What has no place in one is allocated. A bytea is no
 * other than a text.
 */
static void
put_bytes(Source *source, uint8 *data, int len)
{
	if (len + VARHDRSZ_SHORT > VARATT_SHORT_MAX)
	{
		put(source, PointerGetDatum(cstring_to_text_with_len((char *) data, len)));
		return;
	}
	SET_VARSIZE_SHORT(data - VARHDRSZ_SHORT, len + VARHDRSZ_SHORT);
	put(source, PointerGetDatum(data - VARHDRSZ_SHORT));
}

/* A text; empty ones are NULL, but for words. It is UTF-8 as the database is. */
static void
put_text(Source *source, bool word)
{
	VaultBytes	f = field(source, 0, MaxAllocSize);

	if (f.len == 0 && !word)
	{
		put_null(source);
		return;
	}
	pg_verify_mbstr(PG_UTF8, (const char *) f.data, f.len, false);
	put_bytes(source, source->next - f.len, f.len);
}

/* A number; 0 is NULL. */
static void
put_number(Source *source, size_t size)
{
	uint64		n = number(source, size);

	if (n == 0)
		put_null(source);
	else
		put(source, size == 4 ? Int32GetDatum((int32) n) : Int64GetDatum((int64) n));
}

static void
put_time(Source *source)
{
	uint64		usecs = number(source, 8);

	if (usecs > PG_INT64_MAX || !IS_VALID_TIMESTAMP((int64) usecs - EPOCH_USECS))
		no_batch();
	put(source, TimestampTzGetDatum((int64) usecs - EPOCH_USECS));
}

static void
put_addr(Source *source)
{
	VaultBytes	f = field(source, 0, 16);
	inet	   *addr;

	if (f.len == 0)
	{
		put_null(source);
		return;
	}
	if (f.len != 4 && f.len != 16)
		no_batch();
	addr = palloc0(sizeof(inet));
	ip_family(addr) = f.len == 4 ? PGSQL_AF_INET : PGSQL_AF_INET6;
	ip_bits(addr) = f.len * 8;
	memcpy(ip_addr(addr), f.data, f.len);
	SET_INET_VARSIZE(addr);
	put(source, InetPGetDatum(addr));
}

/*
 * Fills a row with the next record. What has its place neither in a Datum nor among the
 * records is allocated.
 */
static void
fill(Source *source, TupleTableSlot *row)
{
	VaultBytes	node;

	ExecClearTuple(row);
	memset(row->tts_isnull, true, row->tts_tupleDescriptor->natts);
	source->row = row;
	source->column = 0;

	if (number(source, 1) != 1)
		no_batch();
	node = field(source, UUID_LEN, UUID_LEN);
	if (memcmp(node.data, source->node->data, UUID_LEN) != 0 || number(source, 8) != (uint64) source->seq)
		no_batch();
	put(source, UUIDPGetDatum(source->node));
	put(source, Int64GetDatum(source->seq));
	put_time(source);
	put_text(source, false);	/* actor */
	put_text(source, false);	/* session_role */
	put_addr(source);
	put_text(source, true);		/* face */
	put_text(source, false);	/* database */
	put_text(source, true);		/* action */
	put_text(source, false);	/* secret_name */
	put_number(source, 4);		/* version */
	put_text(source, true);		/* outcome */
	put(source, BoolGetDatum(number(source, 1) != 0));	/* direct */
	put_text(source, false);	/* reason */
	put_number(source, 8);		/* change */
	put_number(source, 8);		/* statement */
	if (source->end - source->next < HASH_LEN)
		no_batch();
	put_bytes(source, source->prev, HASH_LEN);
	put_bytes(source, source->next, HASH_LEN);
	source->prev = source->next;
	source->next += HASH_LEN;
	source->seq++;
	for (int i = 0; i < row->tts_tupleDescriptor->natts; i++)
		if (source->defaults[i])
			row->tts_values[i] = ExecEvalExpr(source->defaults[i], source->context, &row->tts_isnull[i]);
	ExecStoreVirtualTuple(row);
}

/* Sees that a row is whole, and is one that the table may have. */
static void
check(ResultRelInfo *log, EState *estate, TupleTableSlot *row)
{
	TupleConstr *constr = log->ri_RelationDesc->rd_att->constr;

	if (constr && constr->has_generated_stored)
		ExecComputeStoredGenerated(log, estate, row, CMD_INSERT);
	if (constr)
		ExecConstraints(log, row, estate);
	if (log->ri_RelationDesc->rd_rel->relispartition)
		ExecPartitionCheck(log, row, estate, true);
}

/* Puts rows into the table and its indexes. */
static void
insert(ResultRelInfo *log, EState *estate, TupleTableSlot **rows, int n, BulkInsertState bulk,
	   TransitionCaptureState *capture)
{
	table_multi_insert(log->ri_RelationDesc, rows, n, estate->es_output_cid, 0, bulk);
	for (int i = 0; i < n; i++)
	{
		List	   *recheck;

		recheck = ExecInsertIndexTuples(log, rows[i], estate, false, false, NULL, NIL
#if PG_VERSION_NUM >= 160000
										,false
#endif
			);
		ExecARInsertTriggers(estate, log, rows[i], recheck, capture);
		list_free(recheck);
	}
}

/* Stores the next n records; the log and the executor's state are set up for it. */
static void
store(Source *source, int n, ResultRelInfo *log, EState *estate, TransitionCaptureState *capture)
{
	TupleTableSlot *rows[ROWS];
	MemoryContext values = AllocSetContextCreate(CurrentMemoryContext, "audit records", ALLOCSET_DEFAULT_SIZES);
	BulkInsertState bulk = GetBulkInsertState();
	bool		before = log->ri_TrigDesc && log->ri_TrigDesc->trig_insert_before_row;
	int			together = before ? 1 : ROWS;	/* the trigger may look at the rows before */
	int			filled = 0;

	for (int i = 0; i < Min(n, together); i++)
		rows[i] = table_slot_create(log->ri_RelationDesc, &estate->es_tupleTable);
	while (n-- > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(values);

		fill(source, rows[filled]);
		MemoryContextSwitchTo(old);
		if (!before || ExecBRInsertTriggers(estate, log, rows[filled]))
		{
			check(log, estate, rows[filled]);
			filled++;
		}
		if (filled == together || (n == 0 && filled > 0))
		{
			CHECK_FOR_INTERRUPTS();
			insert(log, estate, rows, filled, bulk, capture);
			filled = 0;
			MemoryContextReset(values);
			ResetPerTupleExprContext(estate);
		}
	}
	FreeBulkInsertState(bulk);
	MemoryContextDelete(values);
}

/*
 * audit_store(node uuid, first bigint, n int, prev bytea, records bytea), called by
 * audit_append() alone.
 */
Datum
vault_audit_store(PG_FUNCTION_ARGS)
{
	bytea	   *prev = PG_GETARG_BYTEA_P_COPY(3);
	bytea	   *records = PG_GETARG_BYTEA_P_COPY(4);
	Relation	rel = table_open(vault_relation("audit_log"), RowExclusiveLock);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *log = makeNode(ResultRelInfo);
	TransitionCaptureState *capture;
	Source		source;

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		elog(ERROR, "vault.audit_log is no plain table");	/* has no place of its own for rows */
	if (VARSIZE(prev) - VARHDRSZ != HASH_LEN)
		no_batch();
	source.node = PG_GETARG_UUID_P(0);
	source.seq = PG_GETARG_INT64(1);
	source.prev = (uint8 *) VARDATA(prev);
	source.next = (uint8 *) VARDATA(records);
	source.end = source.next + VARSIZE(records) - VARHDRSZ;
	find_columns(&source, rel);
	find_defaults(&source, rel, estate);

	estate->es_output_cid = GetCurrentCommandId(true);
	InitResultRelInfo(log, rel, 0, NULL, 0);
	ExecOpenIndices(log, false);
	AfterTriggerBeginQuery();
	capture = MakeTransitionCaptureState(rel->trigdesc, RelationGetRelid(rel), CMD_INSERT);
	ExecBSInsertTriggers(estate, log);
	store(&source, PG_GETARG_INT32(2), log, estate, capture);
	if (source.next != source.end)
		no_batch();
	ExecASInsertTriggers(estate, log, capture);
	AfterTriggerEndQuery(estate);

	ExecResetTupleTable(estate->es_tupleTable, true);
	ExecCloseIndices(log);
	ExecCloseResultRelations(estate);	/* those that triggers were for */
	FreeExecutorState(estate);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

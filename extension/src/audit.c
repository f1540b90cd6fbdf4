/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * audit.c
 *		audit_store: rows of vault.audit_log, from the canonical bytes of records.
 *
 * They go into the table as COPY's do, many at a time and past no trigger and no
 * constraint. What a node has hashed is what it sends (docs/AUDIT.md, "Record"), each
 * record with its hash behind: nothing of it is judged here but that it is whole and in
 * its place.
 */
#include "vault.h"

#include <sys/socket.h>

#include "access/table.h"
#include "commands/copy.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "port/pg_bswap.h"
#include "utils/inet.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(vault_audit_store);

#define HASH_LEN 32
#define EPOCH_USECS ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* In the order of a record's fields; prev_hash and hash are behind them. */
static const char *const columns[] = {
	"node_id", "seq", "at", "actor", "session_role", "client_ip", "face", "database", "action",
	"secret_name", "version", "outcome", "direct", "reason", "change", "statement", "prev_hash", "hash"
};

/* What COPY is reading: its callback has no argument of its own. */
static struct
{
	const uint8 *next;			/* of the records */
	const uint8 *end;
	const uint8 *prev;			/* the hash before */
	pg_uuid_t  *node;
	int64		seq;			/* of the next record */
	int			left;			/* so many records */
	StringInfoData row;			/* converted; its cursor is what COPY has of it */
} source;

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
field(size_t min, size_t max)
{
	VaultBytes	f;
	uint32		len;

	if (source.end - source.next < 4)
		no_batch();
	memcpy(&len, source.next, 4);
	len = pg_ntoh32(len);
	source.next += 4;
	if (len < min || len > max || len > (size_t) (source.end - source.next))
		no_batch();
	f.data = source.next;
	f.len = (int) len;
	source.next += len;
	return f;
}

static uint64
number(size_t size)
{
	VaultBytes	f = field(size, size);
	uint64		n = 0;

	for (int i = 0; i < f.len; i++)
		n = n << 8 | f.data[i];
	return n;
}

static void
put(const void *data, int len)
{
	pq_sendint32(&source.row, len);
	appendBinaryStringInfo(&source.row, data, len);
}

static void
put_null(void)
{
	pq_sendint32(&source.row, -1);
}

/* A text; empty ones are NULL, but for words. */
static void
put_text(bool word)
{
	VaultBytes	f = field(0, MaxAllocSize);

	if (f.len == 0 && !word)
		put_null();
	else
		put(f.data, f.len);
}

static void
put_number(size_t size)
{
	uint64		n = number(size);

	if (n == 0)
	{
		put_null();
		return;
	}
	pq_sendint32(&source.row, size);
	if (size == 4)
		pq_sendint32(&source.row, (uint32) n);
	else
		pq_sendint64(&source.row, n);
}

static void
put_addr(void)
{
	VaultBytes	f = field(0, 16);

	if (f.len == 0)
	{
		put_null();
		return;
	}
	if (f.len != 4 && f.len != 16)
		no_batch();
	pq_sendint32(&source.row, 4 + f.len);
	pq_sendbyte(&source.row, f.len == 4 ? PGSQL_AF_INET : PGSQL_AF_INET6);
	pq_sendbyte(&source.row, f.len * 8);
	pq_sendbyte(&source.row, 0);	/* no cidr */
	pq_sendbyte(&source.row, f.len);
	appendBinaryStringInfo(&source.row, (const char *) f.data, f.len);
}

/* Converts the next record into a row of COPY's binary format. */
static void
convert(void)
{
	VaultBytes	node;
	VaultBytes	direct;

	resetStringInfo(&source.row);
	pq_sendint16(&source.row, lengthof(columns));
	if (number(1) != 1)
		no_batch();
	node = field(UUID_LEN, UUID_LEN);
	if (memcmp(node.data, source.node->data, UUID_LEN) != 0 || number(8) != (uint64) source.seq)
		no_batch();
	put(node.data, node.len);
	pq_sendint32(&source.row, 8);
	pq_sendint64(&source.row, source.seq);
	pq_sendint32(&source.row, 8);
	pq_sendint64(&source.row, number(8) - EPOCH_USECS);
	put_text(false);			/* actor */
	put_text(false);			/* session_role */
	put_addr();
	put_text(true);				/* face */
	put_text(false);			/* database */
	put_text(true);				/* action */
	put_text(false);			/* secret_name */
	put_number(4);				/* version */
	put_text(true);				/* outcome */
	direct = field(1, 1);
	put(direct.data, direct.len);
	put_text(false);			/* reason */
	put_number(8);				/* change */
	put_number(8);				/* statement */
	if (source.end - source.next < HASH_LEN)
		no_batch();
	put(source.prev, HASH_LEN);
	put(source.next, HASH_LEN);
	source.prev = source.next;
	source.next += HASH_LEN;
	source.seq++;
	source.left--;
}

/* COPY's callback: as much as there is, up to maxread. */
static int
read_rows(void *outbuf, int minread, int maxread)
{
	int			n = 0;

	while (n < maxread)
	{
		int			part;

		if (source.row.cursor == source.row.len)
		{
			if (source.left == 0)
				break;
			convert();
		}
		part = Min(maxread - n, source.row.len - source.row.cursor);
		memcpy((char *) outbuf + n, source.row.data + source.row.cursor, part);
		source.row.cursor += part;
		n += part;
	}
	return n;
}

static void
copy_rows(void)
{
	Relation	rel = table_open(vault_relation("audit_log"), RowExclusiveLock);
	ParseState *pstate = make_parsestate(NULL);
	List	   *names = NIL;
	List	   *options = list_make1(makeDefElem("format", (Node *) makeString("binary"), -1));
	CopyFromState copy;

	addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL, false, false);
	for (int i = 0; i < (int) lengthof(columns); i++)
		names = lappend(names, makeString(pstrdup(columns[i])));
	copy = BeginCopyFrom(pstate, rel, NULL, NULL, false, read_rows, names, options);
	CopyFrom(copy);
	EndCopyFrom(copy);
	free_parsestate(pstate);
	table_close(rel, NoLock);
}

/*
 * audit_store(node uuid, first bigint, n int, prev bytea, records bytea), called by
 * audit_append() alone.
 */
Datum
vault_audit_store(PG_FUNCTION_ARGS)
{
	bytea	   *prev = PG_GETARG_BYTEA_PP(3);
	bytea	   *records = PG_GETARG_BYTEA_PP(4);
	int			client = pg_get_client_encoding();

	if (VARSIZE_ANY_EXHDR(prev) != HASH_LEN)
		no_batch();
	source.node = PG_GETARG_UUID_P(0);
	source.seq = PG_GETARG_INT64(1);
	source.left = PG_GETARG_INT32(2);
	source.prev = (const uint8 *) VARDATA_ANY(prev);
	source.next = (const uint8 *) VARDATA_ANY(records);
	source.end = source.next + VARSIZE_ANY_EXHDR(records);
	initStringInfo(&source.row);
	appendBinaryStringInfo(&source.row, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);

	/* Its texts are UTF-8, as the database is, whatever the session's are. */
	SetClientEncoding(PG_UTF8);
	PG_TRY();
	{
		copy_rows();
	}
	PG_FINALLY();
	{
		SetClientEncoding(client);
	}
	PG_END_TRY();

	if (source.next != source.end)
		no_batch();
	PG_RETURN_VOID();
}

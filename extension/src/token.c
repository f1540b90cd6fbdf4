/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * token.c
 *		Who bears a token of REST, and what that may read: token_role, token_read.
 *
 * Rows are read by index with the active snapshot, as in read.c: a node asks at
 * each request. It decides by the rules that are handed out; here they are looked
 * at only so that who may not read a secret makes nobody look for it.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(vault_token_role);
PG_FUNCTION_INFO_V1(vault_token_read);

/* Column numbers: see vault.h. */
enum
{
	Anum_roles_id = 1,
	Anum_roles_name,
	Anum_roles_description,
	Anum_roles_is_admin
};

enum
{
	Anum_permissions_role_id = 1,
	Anum_permissions_action,
	Anum_permissions_pattern
};

enum
{
	Anum_tokens_id = 1,
	Anum_tokens_name,
	Anum_tokens_role_id,
	Anum_tokens_sha256,
	Anum_tokens_created_at,
	Anum_tokens_last_used_at,
	Anum_tokens_revoked_at
};

typedef struct Bearer
{
	pg_uuid_t	id;				/* of the token */
	pg_uuid_t	role_id;
	bool		known;
	bool		has_role;		/* role_id is one */
	bool		held;			/* and that role exists */
	bool		unnoted;		/* its use is to be noted */
	bool		is_admin;
	bool		reads;			/* name */
	const char *name;			/* of a secret; NULL: none is asked for */
	Datum		token;
	Datum		role;
	Datum	   *rules;			/* action, pattern, action, pattern, ... */
	int			nrules;
	int			size;
} Bearer;

typedef void (*RowFn) (HeapTuple tuple, TupleDesc desc, Bearer *b);

/* Calls fn for each row of a table of ours that has this key. */
static void
each_row(const char *table, const char *index, AttrNumber column, RegProcedure equal, Datum value,
		 RowFn fn, Bearer *b)
{
	Relation	rel = table_open(vault_relation(table), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, equal, value);
	scan = systable_beginscan(rel, vault_relation(index), true, GetActiveSnapshot(), 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		fn(tuple, RelationGetDescr(rel), b);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static Datum
text_copy(HeapTuple tuple, TupleDesc desc, AttrNumber column)
{
	bool		isnull;

	return PointerGetDatum(PG_DETOAST_DATUM_COPY(heap_getattr(tuple, column, desc, &isnull)));
}

/* A use is noted every five minutes. */
static bool
long_ago(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		d = heap_getattr(tuple, Anum_tokens_last_used_at, desc, &isnull);

	return isnull || DatumGetTimestampTz(d) < GetCurrentTransactionStartTimestamp() - 5 * SECS_PER_MINUTE * USECS_PER_SEC;
}

static void
token_row(HeapTuple tuple, TupleDesc desc, Bearer *b)
{
	bool		isnull;
	Datum		d;

	(void) heap_getattr(tuple, Anum_tokens_revoked_at, desc, &isnull);
	if (!isnull)
		return;
	b->known = true;
	d = heap_getattr(tuple, Anum_tokens_id, desc, &isnull);
	memcpy(&b->id, DatumGetUUIDP(d), sizeof(pg_uuid_t));
	d = heap_getattr(tuple, Anum_tokens_role_id, desc, &isnull);
	if (!isnull)
		memcpy(&b->role_id, DatumGetUUIDP(d), sizeof(pg_uuid_t));
	b->has_role = !isnull;
	b->token = text_copy(tuple, desc, Anum_tokens_name);
	b->unnoted = !XactReadOnly && long_ago(tuple, desc);
}

static void
role_row(HeapTuple tuple, TupleDesc desc, Bearer *b)
{
	bool		isnull;
	Datum		d = heap_getattr(tuple, Anum_roles_id, desc, &isnull);

	b->held = true;
	memcpy(&b->role_id, DatumGetUUIDP(d), sizeof(pg_uuid_t));
	b->role = text_copy(tuple, desc, Anum_roles_name);
	b->is_admin = DatumGetBool(heap_getattr(tuple, Anum_roles_is_admin, desc, &isnull));
}

static bool
rule_reads(text *action, text *pattern, const char *name)
{
	uint32		mask;
	const char *p = VARDATA_ANY(pattern);
	int			len = VARSIZE_ANY_EXHDR(pattern);
	int			name_len = strlen(name);

	if (!vault_action_parse(VARDATA_ANY(action), VARSIZE_ANY_EXHDR(action), &mask) || !(mask & VAULT_READ))
		return false;
	if (len > 0 && p[len - 1] == '*')
		return len - 1 <= name_len && memcmp(p, name, len - 1) == 0;
	return len == name_len && memcmp(p, name, len) == 0;
}

static void
add_rule(Bearer *b, Datum action, Datum pattern)
{
	if (2 * b->nrules + 2 > b->size)
	{
		b->size = Max(16, 2 * b->size);
		b->rules = b->rules == NULL ? palloc(b->size * sizeof(Datum)) :
			repalloc(b->rules, b->size * sizeof(Datum));
	}
	b->rules[2 * b->nrules] = action;
	b->rules[2 * b->nrules + 1] = pattern;
	b->nrules++;
	b->reads = b->reads || (b->name != NULL &&
							rule_reads(DatumGetTextPP(action), DatumGetTextPP(pattern), b->name));
}

static void
permission_row(HeapTuple tuple, TupleDesc desc, Bearer *b)
{
	CHECK_FOR_INTERRUPTS();
	add_rule(b, text_copy(tuple, desc, Anum_permissions_action), text_copy(tuple, desc, Anum_permissions_pattern));
}

/* Where something can be written; another's write of the same row is not waited for. */
static void
note_use(Bearer *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	VaultCaller caller;
	Datum		id = UUIDPGetDatum(&b->id);

	vault_spi_begin(&caller);
	(void) vault_spi_run(&plan,
						 "UPDATE vault.admin_tokens t SET last_used_at = pg_catalog.now() FROM"
						 " (SELECT u.id FROM vault.admin_tokens u WHERE u.id OPERATOR(pg_catalog.=) $1"
						 " FOR UPDATE SKIP LOCKED) free WHERE t.id OPERATOR(pg_catalog.=) free.id",
						 1, types, &id, NULL, SPI_OK_UPDATE);
	vault_spi_end(&caller);
}

/* Who comes without a token: no admin, and until there is a role ip, whoever may read. */
static void
find_nobody(Bearer *b)
{
	static const char *const may[] = {"read", "verify"};

	b->known = true;
	b->role = CStringGetTextDatum("ip");
	each_row("roles", "roles_name_key", Anum_roles_name, F_TEXTEQ, b->role, role_row, b);
	b->is_admin = false;
	if (b->held)
		return;
	for (size_t i = 0; i < lengthof(may); i++)
		add_rule(b, CStringGetTextDatum(may[i]), CStringGetTextDatum("*"));
}

static void
find_bearer(FunctionCallInfo fcinfo, Bearer *b)
{
	if (PG_ARGISNULL(0))
		find_nobody(b);
	else
	{
		each_row("admin_tokens", "admin_tokens_token_sha256_key", Anum_tokens_sha256, F_BYTEAEQ,
				 PG_GETARG_DATUM(0), token_row, b);
		if (!b->known)
			return;
		b->role = CStringGetTextDatum(b->has_role ? "" : "admin");
		b->is_admin = !b->has_role;
		if (b->has_role)
			each_row("roles", "roles_pkey", Anum_roles_id, F_UUID_EQ, UUIDPGetDatum(&b->role_id), role_row, b);
	}
	if (b->held)
		each_row("role_permissions", "role_permissions_pkey", Anum_permissions_role_id, F_UUID_EQ,
				 UUIDPGetDatum(&b->role_id), permission_row, b);
	b->reads = b->reads || b->is_admin;
	if (b->unnoted)
		note_use(b);
}

static Datum
rules_datum(const Bearer *b)
{
	int			dims[] = {b->nrules, 2};
	int			lbs[] = {1, 1};

	if (b->nrules == 0)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	return PointerGetDatum(construct_md_array(b->rules, NULL, 2, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
}

/* token, role, is_admin, rules. */
#define BEARER_COLUMNS 4

static void
put_bearer(const Bearer *b, Datum *values, bool *nulls)
{
	nulls[0] = b->token == (Datum) 0;
	nulls[1] = nulls[2] = nulls[3] = false;
	values[0] = b->token;
	values[1] = b->role;
	values[2] = BoolGetDatum(b->is_admin);
	values[3] = rules_datum(b);
}

/* No row: nobody bears it. */
Datum
vault_token_role(PG_FUNCTION_ARGS)
{
	Bearer		b = {0};
	VaultRows	out = vault_begin_rows(fcinfo);
	Datum		values[BEARER_COLUMNS];
	bool		nulls[BEARER_COLUMNS];

	find_bearer(fcinfo, &b);
	if (b.known)
	{
		put_bearer(&b, values, nulls);
		tuplestore_putvalues(out.store, out.desc, values, nulls);
	}
	return (Datum) 0;
}

/* With record, created_at, kind; NULL where it may not read the secret as where there is none. */
Datum
vault_token_read(PG_FUNCTION_ARGS)
{
	Bearer		b = {0};
	TupleDesc	desc;
	VaultReading r;
	Datum		values[BEARER_COLUMNS + 3];
	bool		nulls[BEARER_COLUMNS + 3];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "function must return a row");
	b.name = vault_name_arg(fcinfo, 1);
	memset(nulls, true, sizeof(nulls));
	find_bearer(fcinfo, &b);
	if (b.known)
		put_bearer(&b, values, nulls);
	if (b.known && b.reads && vault_read_for_node(fcinfo, b.name, 2, &r))
	{
		values[BEARER_COLUMNS] = r.record;
		values[BEARER_COLUMNS + 1] = r.created_at;
		values[BEARER_COLUMNS + 2] = r.kind;
		memset(nulls + BEARER_COLUMNS, false, 3 * sizeof(bool));
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

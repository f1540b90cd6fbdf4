/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * node.c
 *		What a node serves REST with: node_read, node_candidates,
 *		node_next_version, node_write.
 *
 * Only the service role may execute these, and the node has asked its rules
 * before: no grant of a PostgreSQL role is looked at. They hand out records and
 * metadata, never more.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(vault_node_read);
PG_FUNCTION_INFO_V1(vault_node_candidates);
PG_FUNCTION_INFO_V1(vault_node_next_version);
PG_FUNCTION_INFO_V1(vault_node_write);

static TupleDesc
result_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "function must return a row");
	return BlessTupleDesc(desc);
}

static Datum
kind_datum(bool automatic)
{
	return CStringGetTextDatum(automatic ? "automatic" : "manual");
}

static Datum
format_datum(bool userpass)
{
	return CStringGetTextDatum(userpass ? "userpass" : "opaque");
}

typedef struct Reading
{
	const char *name;
	VaultSecret secret;
	Datum		values[5];
	bool		nulls[5];
	VaultRows	rows;
	VaultReading *one;			/* of node_read */
	bool		found;
} Reading;

static Datum
record_datum(HeapTuple tuple, TupleDesc desc, const Reading *r)
{
	VaultRecord rec;

	vault_record_from_row(tuple, desc, r->name, &r->secret, &rec);
	return PointerGetDatum(vault_record_text(&rec));
}

static bool
read_row(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Reading    *r = arg;
	bool		isnull;

	/* All of these columns are NOT NULL. */
	r->found = true;
	r->one->record = record_datum(tuple, desc, r);
	r->one->version = heap_getattr(tuple, Anum_versions_version, desc, &isnull);
	r->one->created_at = heap_getattr(tuple, Anum_versions_created_at, desc, &isnull);
	r->one->kind = kind_datum(r->secret.automatic);
	r->one->format = format_datum(r->secret.userpass);
	return false;
}

/* A version that can be read now, the current one if argument argno is NULL; false: there is none. */
bool
vault_read_for_node(FunctionCallInfo fcinfo, const char *name, int argno, VaultReading *one)
{
	Reading		r = {.name = name, .one = one};
	int32		version;

	if (!vault_fetch_secret(name, &r.secret))
		return false;
	version = PG_ARGISNULL(argno) ? r.secret.current_version : PG_GETARG_INT32(argno);
	if (version > 0)
		vault_walk_versions(&r.secret.id, version, read_row, &r);
	return r.found;
}

/* NULLs: there is none. */
Datum
vault_node_read(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	VaultReading r = {0};
	bool		nulls[5];

	memset(nulls, !vault_read_for_node(fcinfo, vault_name_arg(fcinfo, 0), 1, &r), sizeof(nulls));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, (Datum[]){r.record, r.version, r.created_at, r.kind, r.format}, nulls)));
}

static bool
candidate_row(HeapTuple tuple, TupleDesc desc, void *arg)
{
	static const int cols[] = {
		Anum_versions_version, Anum_versions_stage, Anum_versions_created_at, Anum_versions_expires_at
	};
	Reading    *r = arg;

	for (size_t i = 0; i < lengthof(cols); i++)
		r->values[i] = heap_getattr(tuple, cols[i], desc, &r->nulls[i]);
	r->values[4] = record_datum(tuple, desc, r);
	r->nulls[4] = false;
	tuplestore_putvalues(r->rows.store, r->rows.desc, r->values, r->nulls);
	return true;
}

/* The versions that are current or in grace, newest first. */
Datum
vault_node_candidates(PG_FUNCTION_ARGS)
{
	Reading		r = {0};

	r.name = vault_name_arg(fcinfo, 0);
	r.rows = vault_begin_rows(fcinfo);
	if (vault_fetch_secret(r.name, &r.secret))
		vault_walk_versions(&r.secret.id, 0, candidate_row, &r);
	return (Datum) 0;
}

static VaultAction
action_arg(FunctionCallInfo fcinfo, int argno)
{
	char	   *word = PG_ARGISNULL(argno) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(argno));

	if (strcmp(word, "create") == 0)
		return VAULT_ACTION_CREATE;
	if (strcmp(word, "update") == 0)
		return VAULT_ACTION_PUT;
	if (strcmp(word, "rotate") == 0)
		return VAULT_ACTION_ROTATE;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown action"),
			 errhint("The actions of a node are create, update and rotate."),
			 VAULT_HIDE));
}

/* Locks the name until the transaction ends and reserves its next version. */
Datum
vault_node_next_version(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_desc(fcinfo);
	char	   *name = vault_name_arg(fcinfo, 0);
	VaultAction action = action_arg(fcinfo, 1);
	VaultRow	row;
	Datum		values[5];
	bool		nulls[5] = {false, false, false, false, false};
	pg_uuid_t	id;
	int32		version;

	PreventCommandIfReadOnly("vault.node_next_version()");
	PreventCommandIfParallelMode("vault.node_next_version()");
	(void) vault_id();
	if (!vault_lock_name(name, action == VAULT_ACTION_CREATE, &row))
		vault_missing(name);
	vault_check_state(action, name, &row);
	if (!row.live && action != VAULT_ACTION_CREATE)
		vault_missing(name);
	version = vault_reserve(action, name, &row, 1, &id);

	values[0] = UUIDPGetDatum(&id);
	values[1] = Int32GetDatum(version);
	values[2] = kind_datum(row.automatic);
	values[3] = format_datum(row.userpass);
	values[4] = Int32GetDatum(row.live ? row.current_version : 0);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* Stores a record that was sealed for the version reserved in this transaction. */
Datum
vault_node_write(PG_FUNCTION_ARGS)
{
	VaultRecord rec;
	VaultTraits traits = {.node = true};
	VaultAction action;

	vault_record_arg(fcinfo, 0, &rec, NULL);
	PreventCommandIfReadOnly("vault.node_write()");
	action = action_arg(fcinfo, 1);
	if (action == VAULT_ACTION_CREATE)
		traits.automatic = vault_kind_arg(fcinfo, 2);
	PG_RETURN_INT32(vault_store(action, pnstrdup((const char *) rec.name.data, rec.name.len), &rec, &traits));
}

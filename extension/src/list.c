/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * list.c
 *		list_secrets and list_versions: metadata of what the role may list.
 *
 * Set-returning in C, so that the planner cannot push a condition of the query
 * below the check of the right.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(vault_list_secrets);
PG_FUNCTION_INFO_V1(vault_list_versions);

/* As InitMaterializedSRF of 15, for all versions. */
VaultRows
vault_begin_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	VaultRows	out;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("this function returns a set and cannot be used here"),
				 errhint("Write it in FROM, as in SELECT * FROM vault.%s().",
						 get_func_name(fcinfo->flinfo->fn_oid))));
	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &out.desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "function must return rows");
	out.store = tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0,
									  false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = out.store;
	rsinfo->setDesc = out.desc;
	MemoryContextSwitchTo(old);
	return out;
}

/* Copies the columns cols of a row into the result. */
static void
put_row(VaultRows *out, HeapTuple tuple, TupleDesc desc, const int *cols, int n)
{
	Datum		values[16];
	bool		nulls[16];

	Assert(n <= 16 && n == out->desc->natts);
	for (int i = 0; i < n; i++)
		values[i] = heap_getattr(tuple, cols[i], desc, &nulls[i]);
	tuplestore_putvalues(out->store, out->desc, values, nulls);
}

static const int secret_cols[] = {
	Anum_secrets_name, Anum_secrets_kind, Anum_secrets_format, Anum_secrets_description,
	Anum_secrets_current_version, Anum_secrets_rotation_interval, Anum_secrets_grace_period,
	Anum_secrets_next_rotation_at, Anum_secrets_created_at, Anum_secrets_updated_at
};

/* With the prefix, if names can begin with it. */
static void
report_list(const text *prefix, bool any)
{
	char	   *pattern = psprintf("%.*s*", (int) Min(VARSIZE_ANY_EXHDR(prefix), VAULT_NAME_MAX + 1),
								   VARDATA_ANY(prefix));
	int			len = strlen(pattern);

	if (vault_pattern_fault(pattern, len) == NULL)
		pattern[len - 1] = '\0';
	else
		pattern[0] = '\0';
	if (any)
		vault_report_done("list", pattern);
	else
		vault_report_empty("list", pattern);
}

/* By name in byte order, from the prefix on. */
Datum
vault_list_secrets(PG_FUNCTION_ARGS)
{
	text	   *prefix = PG_ARGISNULL(0) ? cstring_to_text("") : PG_GETARG_TEXT_PP(0);
	int			plen = VARSIZE_ANY_EXHDR(prefix);
	VaultRows	out = vault_begin_rows(fcinfo);
	Relation	rel = table_open(vault_relation("secrets"), AccessShareLock);
	Relation	index = index_open(vault_relation("secrets_name_key"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		any = false;

	ScanKeyInit(&key, Anum_secrets_name, BTGreaterEqualStrategyNumber, F_TEXT_GE,
				PointerGetDatum(prefix));
	scan = systable_beginscan_ordered(rel, index, GetActiveSnapshot(), 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		bool		isnull;
		Datum		d = heap_getattr(tuple, Anum_secrets_name, desc, &isnull);
		char	   *name = TextDatumGetCString(d);

		CHECK_FOR_INTERRUPTS();
		if (strncmp(name, VARDATA_ANY(prefix), plen) != 0)
			break;
		(void) heap_getattr(tuple, Anum_secrets_deleted_at, desc, &isnull);
		if (isnull && vault_allowed(VAULT_LIST, name))
		{
			put_row(&out, tuple, desc, secret_cols, lengthof(secret_cols));
			any = true;
		}
		pfree(name);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	report_list(prefix, any);
	return (Datum) 0;
}

static const int version_cols[] = {
	Anum_versions_version, Anum_versions_stage, Anum_versions_created_at, Anum_versions_expires_at
};

static bool
list_version(HeapTuple tuple, TupleDesc desc, void *arg)
{
	put_row(arg, tuple, desc, version_cols, lengthof(version_cols));
	return true;
}

/* Newest first; a version past its grace period reads as missing here too. */
Datum
vault_list_versions(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);
	VaultRows	out = vault_begin_rows(fcinfo);
	VaultSecret secret;
	bool		allowed = vault_allowed(VAULT_LIST, name);

	if (!allowed || !vault_fetch_secret(name, &secret))
	{
		vault_report_absent("list", allowed, name);
		vault_missing(name);
	}
	vault_walk_versions(&secret.id, 0, list_version, &out);
	vault_report_done("list", name);
	return (Datum) 0;
}

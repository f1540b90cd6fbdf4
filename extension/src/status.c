/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * status.c
 *		status, for nodes and operators; fail, with which a node ends a
 *		transaction in the client's name.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(vault_status);
PG_FUNCTION_INFO_V1(vault_fail);

/*
 * The settings are given by C and not by current_setting(): before the library
 * is loaded a session could have placeholders of these names. Only tables and
 * columns of 1.0: the extension may be that old. A claim holds for 15 s. Nodes
 * ask for this often, and pg_monitor may: no names of secrets, and few rows.
 */
Datum
vault_status(PG_FUNCTION_ARGS)
{
	static Oid types[] = {BOOLOID, TEXTOID, BOOLOID, INT4OID, INT4OID};
	Datum		values[5] = {
		BoolGetDatum(vault_preloaded),
		CStringGetTextDatum(vault_database),
		BoolGetDatum(vault_rotation_enabled),
		Int32GetDatum(vault_scan_interval_secs),
		Int32GetDatum(vault_audit_min_age)
	};
	VaultCaller caller;
	bool		isnull;
	Datum		result;
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext spi;

	vault_spi_begin(&caller);
	if (SPI_execute_with_args(
							  "SELECT pg_catalog.jsonb_build_object("
							  "'vault_id', m.vault_id,"
							  "'extension_version', (SELECT e.extversion FROM pg_catalog.pg_extension e"
							  " WHERE e.extname OPERATOR(pg_catalog.=) 'hyperion_vault'),"
							  "'in_recovery', pg_catalog.pg_is_in_recovery(),"
							  "'preloaded', $1, 'worker_database', $2,"
							  "'database', pg_catalog.current_database(),"
							  "'rotation_enabled', $3, 'scan_interval_secs', $4,"
							  "'audit_min_age_secs', $5,"
							  "'kms_key_ids', m.kms_key_ids,"
							  "'bootstrapped_at', m.bootstrapped_at,"
							  "'last_tick_at', m.last_tick_at,"
							  "'rotations_claimed', (SELECT pg_catalog.count(*) FROM vault.rotation_jobs j"
							  " WHERE j.completed_at IS NULL AND j.claim_token IS NOT NULL AND j.claimed_at"
							  " OPERATOR(pg_catalog.>) (pg_catalog.now() OPERATOR(pg_catalog.-) '15 s'::pg_catalog.interval)),"
							  "'audit_nodes', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
							  "'node_id', h.node_id, 'shipped', h.seq, 'at', h.at)) FROM (SELECT * FROM vault.audit_heads"
							  " WHERE seq OPERATOR(pg_catalog.>) 0 ORDER BY at DESC, node_id LIMIT 100) h))"
							  " FROM (SELECT 1) one LEFT JOIN vault.meta m ON true",
							  5, types, values, NULL, true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read vault.meta");
	spi = MemoryContextSwitchTo(outer);
	result = PointerGetDatum(DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0],
															   SPI_tuptable->tupdesc, 1, &isnull)));
	MemoryContextSwitchTo(spi);
	vault_spi_end(&caller);
	return result;
}

static char *
optional_cstring(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/* Five characters 0-9 A-Z, and a class that is an error. */
static bool
is_error_state(const char *s)
{
	if (s == NULL || strlen(s) != 5 || strspn(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5)
		return false;
	return strncmp(s, "00", 2) != 0 && strncmp(s, "01", 2) != 0 && strncmp(s, "02", 2) != 0;
}

/* Always raises exactly what it is given. */
Datum
vault_fail(PG_FUNCTION_ARGS)
{
	char	   *state = optional_cstring(fcinfo, 0);
	char	   *message = optional_cstring(fcinfo, 1);
	char	   *detail = optional_cstring(fcinfo, 2);
	char	   *hint = optional_cstring(fcinfo, 3);

	if (!is_error_state(state) || message == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("vault.fail() needs the SQLSTATE of an error and a message"),
				 errhint("A SQLSTATE is five characters 0-9 A-Z and not of class 00, 01 or 02."),
				 VAULT_HIDE));
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
			 errmsg_internal("%s", message),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0,
			 VAULT_HIDE));
	PG_RETURN_VOID();
}

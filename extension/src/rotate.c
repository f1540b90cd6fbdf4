/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * rotate.c
 *		complete_rotation: the end of a claimed job.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(vault_complete_rotation);

/*
 * Locks the job, if it is the caller's still. The caller has the secret's row:
 * what is read of it stays so.
 */
static bool
claim_holds(Datum job, Datum token, Datum seen, const pg_uuid_t *secret)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, UUIDOID, INT4OID, UUIDOID};
	Datum		values[4] = {job, token, seen, UUIDPGetDatum(secret)};
	VaultCaller caller;
	bool		holds;

	vault_spi_begin(&caller);
	holds = vault_spi_run(&plan,
						  "SELECT 1 FROM vault.rotation_jobs j, vault.secrets s"
						  " WHERE j.id OPERATOR(pg_catalog.=) $1"
						  " AND j.claim_token OPERATOR(pg_catalog.=) $2 AND j.completed_at IS NULL"
						  " AND j.secret_id OPERATOR(pg_catalog.=) $4"
						  " AND s.id OPERATOR(pg_catalog.=) $4"
						  " AND s.current_version OPERATOR(pg_catalog.=) $3"
						  " AND s.next_rotation_at OPERATOR(pg_catalog.<=) pg_catalog.now()"
						  " FOR UPDATE OF j",
						  4, types, values, NULL, SPI_OK_SELECT) == 1;
	vault_spi_end(&caller);
	return holds;
}

/*
 * As node_write() of a rotation, which closes the job. If the claim is somebody
 * else's by now nothing is stored: the error takes the transaction with it.
 */
Datum
vault_complete_rotation(PG_FUNCTION_ARGS)
{
	VaultRecord rec;
	VaultTraits traits = {.node = true};

	vault_record_arg(fcinfo, 3, &rec, NULL);
	PreventCommandIfReadOnly("vault.complete_rotation()");
	if (!claim_holds(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), &rec.secret))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the rotation is no longer this claim's to complete"),
				 errhint("Another node has claimed it since, or the secret was written or deleted."),
				 VAULT_HIDE));
	PG_RETURN_INT32(vault_store(VAULT_ACTION_ROTATE, pnstrdup((const char *) rec.name.data, rec.name.len), &rec, &traits));
}

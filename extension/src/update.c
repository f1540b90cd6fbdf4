/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * update.c
 *		update_secret and delete_secret.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(vault_update_secret);
PG_FUNCTION_INFO_V1(vault_delete_secret);

#define INTERVAL_LITERAL(s) \
	DirectFunctionCall3(interval_in, CStringGetDatum(s), \
						ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))

/* NULL leaves a column as it is; '0' clears an interval, '' the description. */
static void
check_interval(FunctionCallInfo fcinfo, int argno, const char *min, const char *what)
{
	Datum		value;

	if (PG_ARGISNULL(argno))
		return;
	value = PG_GETARG_DATUM(argno);
	if (DatumGetBool(DirectFunctionCall2(interval_eq, value, INTERVAL_LITERAL("0"))))
		return;
	if (DatumGetBool(DirectFunctionCall2(interval_lt, value, INTERVAL_LITERAL(min))) ||
		DatumGetBool(DirectFunctionCall2(interval_gt, value, INTERVAL_LITERAL("100 years"))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", what),
				 errhint("It is 0, or between %s and 100 years.", min)));
}

/* What dates in RFC 3339 can say: REST shows it, also beside others' secrets. */
static void
check_date(TimestampTz date)
{
	Datum		first = DirectFunctionCall3(timestamptz_in, CStringGetDatum("0001-01-01 00:00:00+00"),
										ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	Datum		end = DirectFunctionCall3(timestamptz_in, CStringGetDatum("10000-01-01 00:00:00+00"),
									  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

	if (date < DatumGetTimestampTz(first) || date >= DatumGetTimestampTz(end))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("next_rotation_at is out of range"),
				 errhint("It is in the years 1 to 9999; rotation_interval => '0' calls rotations off.")));
}

static void
check_update(FunctionCallInfo fcinfo, const VaultRow *row)
{
	check_interval(fcinfo, 1, "1 second", "rotation_interval");
	check_interval(fcinfo, 2, "0 seconds", "grace_period");
	if (!row->automatic && (!PG_ARGISNULL(1) || !PG_ARGISNULL(4)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a manual secret has no rotation_interval and no next_rotation_at"),
				 errhint("The kind of a secret is fixed when it is created.")));
	if (!PG_ARGISNULL(4))
		check_date(PG_GETARG_TIMESTAMPTZ(4));
	if (!PG_ARGISNULL(3) && VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(3)) > VAULT_DESCRIPTION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the description is too long"),
				 errhint("It has at most %d bytes.", VAULT_DESCRIPTION_MAX)));
}

/* Locks a living secret, else P0002. */
static void
lock_living(const char *name, VaultRow *row)
{
	if (!vault_lock_name(name, false, row) || !row->live)
		vault_missing(name);
}

/* A rotation that was put off or called off is no longer to be done. */
static void
drop_job_not_due(const VaultRow *row)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		values[1] = {UUIDPGetDatum(&row->id)};

	vault_spi_run(&plan,
				  "DELETE FROM vault.rotation_jobs WHERE secret_id OPERATOR(pg_catalog.=) $1"
				  " AND completed_at IS NULL AND NOT EXISTS (SELECT FROM vault.secrets s"
				  " WHERE s.id OPERATOR(pg_catalog.=) $1"
				  " AND s.next_rotation_at OPERATOR(pg_catalog.<=) pg_catalog.now())",
				  1, types, values, NULL, SPI_OK_DELETE);
}

Datum
vault_update_secret(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, INTERVALOID, INTERVALOID, TEXTOID, TIMESTAMPTZOID};
	char	   *name = vault_name_arg(fcinfo, 0);
	VaultRow	row;
	VaultCaller caller;
	Datum		values[5];
	char		nulls[6] = "     ";

	PreventCommandIfReadOnly("vault.update_secret()");
	vault_require(VAULT_UPDATE, name);
	lock_living(name, &row);
	vault_require(VAULT_UPDATE, name);
	check_update(fcinfo, &row);

	values[0] = UUIDPGetDatum(&row.id);
	for (int i = 1; i < 5; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	vault_spi_begin(&caller);
	/* A new interval counts from now, unless the next date is given as well. */
	vault_spi_run(&plan,
				  "UPDATE vault.secrets SET"
				  " rotation_interval = CASE WHEN $2 IS NULL THEN rotation_interval"
				  " WHEN $2 OPERATOR(pg_catalog.=) '0'::pg_catalog.interval THEN NULL ELSE $2 END,"
				  " next_rotation_at = CASE WHEN $5 IS NOT NULL THEN $5"
				  " WHEN $2 IS NULL THEN next_rotation_at"
				  " WHEN $2 OPERATOR(pg_catalog.=) '0'::pg_catalog.interval THEN NULL"
				  " ELSE " VAULT_NEXT_ROTATION("$2") " END,"
				  " grace_period = CASE WHEN $3 IS NULL THEN grace_period"
				  " WHEN $3 OPERATOR(pg_catalog.=) '0'::pg_catalog.interval THEN NULL ELSE $3 END,"
				  " description = CASE WHEN $4 IS NULL THEN description"
				  " WHEN $4 OPERATOR(pg_catalog.=) '' THEN NULL ELSE $4 END,"
				  " updated_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) $1",
				  5, types, values, nulls, SPI_OK_UPDATE);
	drop_job_not_due(&row);
	vault_spi_end(&caller);
	PG_RETURN_VOID();
}

/*
 * Versions and jobs go; the row stays with its current_version, so that a
 * secret created later under this name goes on counting where this one ended.
 */
static void
bury(const VaultRow *row)
{
	static SPIPlanPtr versions = NULL;
	static SPIPlanPtr jobs = NULL;
	static SPIPlanPtr secret = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		values[1] = {UUIDPGetDatum(&row->id)};

	vault_spi_run(&versions,
				  "DELETE FROM vault.secret_versions WHERE secret_id OPERATOR(pg_catalog.=) $1",
				  1, types, values, NULL, SPI_OK_DELETE);
	vault_spi_run(&jobs,
				  "DELETE FROM vault.rotation_jobs WHERE secret_id OPERATOR(pg_catalog.=) $1",
				  1, types, values, NULL, SPI_OK_DELETE);
	vault_spi_run(&secret,
				  "UPDATE vault.secrets SET kind = 'manual', format = 'opaque', description = NULL,"
				  " rotation_interval = NULL, grace_period = NULL, next_rotation_at = NULL,"
				  " allowed_cidrs = NULL, deleted_at = pg_catalog.now(),"
				  " updated_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) $1",
				  1, types, values, NULL, SPI_OK_UPDATE);
}

/* True if there was a secret to delete. */
Datum
vault_delete_secret(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);
	VaultRow	row;
	VaultCaller caller;

	PreventCommandIfReadOnly("vault.delete_secret()");
	vault_require(VAULT_DELETE, name);
	if (!vault_lock_name(name, false, &row) || !row.live)
		PG_RETURN_BOOL(false);
	vault_require(VAULT_DELETE, name);

	vault_spi_begin(&caller);
	bury(&row);
	vault_spi_end(&caller);
	vault_note_changed(&row.id, 0);
	PG_RETURN_BOOL(true);
}

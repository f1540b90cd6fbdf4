/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * update.c
 *		update_secret and delete_secret, and the same for a node: node_update,
 *		node_reschedule, node_delete.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(vault_update_secret);
PG_FUNCTION_INFO_V1(vault_delete_secret);
PG_FUNCTION_INFO_V1(vault_node_update);
PG_FUNCTION_INFO_V1(vault_node_reschedule);
PG_FUNCTION_INFO_V1(vault_node_delete);

/* What an update says; where it says nothing a column stays as it is. */
enum
{
	ROTATION_INTERVAL,
	GRACE_PERIOD,
	DESCRIPTION,
	NEXT_ROTATION_AT,
	ALLOWED_CIDRS,
	COLUMNS
};

typedef struct Update
{
	Datum		value[COLUMNS];
	bool		given[COLUMNS];
} Update;

static void
take(Update *u, int column, FunctionCallInfo fcinfo, int argno)
{
	u->given[column] = !PG_ARGISNULL(argno);
	if (u->given[column])
		u->value[column] = PG_GETARG_DATUM(argno);
}

/* '0' clears an interval, '' the description, '{}' the networks. */
static void
check_interval(const Update *u, int column, const char *min, const char *what)
{
	const Interval *value;

	if (!u->given[column])
		return;
	value = DatumGetIntervalP(u->value[column]);
	if (value->month == 0 && value->day == 0 && value->time == 0)
		return;
	if (!vault_interval_in_bounds(value, min))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", what),
				 errhint("It is 0, or between %s and 100 years, without negative parts.", min)));
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
check_update(const Update *u, const VaultRow *row)
{
	check_interval(u, ROTATION_INTERVAL, "1 second", "rotation_interval");
	check_interval(u, GRACE_PERIOD, "0 seconds", "grace_period");
	if (!row->automatic && (u->given[ROTATION_INTERVAL] || u->given[NEXT_ROTATION_AT]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a manual secret has no rotation_interval and no next_rotation_at"),
				 errhint("The kind of a secret is fixed when it is created.")));
	if (u->given[NEXT_ROTATION_AT])
		check_date(DatumGetTimestampTz(u->value[NEXT_ROTATION_AT]));
	if (u->given[DESCRIPTION])
		vault_check_description(DatumGetTextPP(u->value[DESCRIPTION]));
}

/* Locks a living secret, else P0002. */
static void
lock_living(const char *name, bool node, VaultRow *row)
{
	if (vault_lock_name(name, false, row) && row->live)
		return;
	if (!node)
		vault_report_absent("update", true, name);
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

/* A new interval counts from now, unless the next date is given as well. */
static void
store_update(const VaultRow *row, const Update *u)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, INTERVALOID, INTERVALOID, TEXTOID, TIMESTAMPTZOID, CIDRARRAYOID};
	Datum		values[COLUMNS + 1] = {UUIDPGetDatum(&row->id)};
	char		nulls[COLUMNS + 2] = " ";

	for (int i = 0; i < COLUMNS; i++)
	{
		values[i + 1] = u->value[i];
		nulls[i + 1] = u->given[i] ? ' ' : 'n';
	}
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
				  " allowed_cidrs = CASE WHEN $6 IS NULL THEN allowed_cidrs"
				  " WHEN pg_catalog.cardinality($6) OPERATOR(pg_catalog.=) 0 THEN NULL ELSE $6 END,"
				  " updated_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) $1",
				  6, types, values, nulls, SPI_OK_UPDATE);
}

static void
log_change(const char *action, const char *name, const VaultRow *row, int32 version)
{
	VaultChange change = {
		.action = action,
		.subject = name,
		.secret = &row->id,
		.version = version,
		.role = GetUserId()
	};

	vault_log_change(&change);
}

/* node: it has checked the right. */
static void
update(const char *name, const Update *u, bool node)
{
	VaultRow	row;
	VaultCaller caller;

	if (!node)
		vault_require(VAULT_UPDATE, name);
	lock_living(name, node, &row);
	if (!node)
		vault_require(VAULT_UPDATE, name);
	check_update(u, &row);

	vault_spi_begin(&caller);
	store_update(&row, u);
	drop_job_not_due(&row);
	vault_spi_end(&caller);
	log_change("update", name, &row, 0);
}

Datum
vault_update_secret(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);
	Update		u = {0};

	PreventCommandIfReadOnly("vault.update_secret()");
	take(&u, ROTATION_INTERVAL, fcinfo, 1);
	take(&u, GRACE_PERIOD, fcinfo, 2);
	take(&u, DESCRIPTION, fcinfo, 3);
	take(&u, NEXT_ROTATION_AT, fcinfo, 4);
	update(name, &u, false);
	PG_RETURN_VOID();
}

Datum
vault_node_update(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);
	Update		u = {0};

	PreventCommandIfReadOnly("vault.node_update()");
	take(&u, ROTATION_INTERVAL, fcinfo, 1);
	take(&u, GRACE_PERIOD, fcinfo, 2);
	take(&u, DESCRIPTION, fcinfo, 3);
	take(&u, ALLOWED_CIDRS, fcinfo, 4);
	update(name, &u, true);
	PG_RETURN_VOID();
}

Datum
vault_node_reschedule(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);
	Update		u = {0};

	PreventCommandIfReadOnly("vault.node_reschedule()");
	take(&u, NEXT_ROTATION_AT, fcinfo, 1);
	update(name, &u, true);
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

/* True if there was a secret to delete. node: it has checked the right. */
static bool
delete(const char *name, bool node)
{
	VaultRow	row;
	VaultCaller caller;

	if (!node)
		vault_require(VAULT_DELETE, name);
	if (!vault_lock_name(name, false, &row) || !row.live)
	{
		if (!node)
			vault_report_absent("delete", true, name);
		return false;
	}
	if (!node)
		vault_require(VAULT_DELETE, name);

	vault_spi_begin(&caller);
	bury(&row);
	vault_spi_end(&caller);
	log_change("delete", name, &row, row.current_version);
	vault_note_changed(&row.id, 0);
	return true;
}

Datum
vault_delete_secret(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);

	PreventCommandIfReadOnly("vault.delete_secret()");
	PG_RETURN_BOOL(delete(name, false));
}

Datum
vault_node_delete(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);

	PreventCommandIfReadOnly("vault.node_delete()");
	PG_RETURN_BOOL(delete(name, true));
}

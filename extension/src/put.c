/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * put.c
 *		put_secret, create_secret, rotate_secret: store a sealed version.
 *
 * At the server the value can only be a record that a node sealed for a version
 * reserved in this transaction. Whatever else comes may be somebody's plaintext:
 * it is refused first of all, before the server can find another error that
 * would log the statement, and no message of this file quotes an argument.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(vault_put_secret);
PG_FUNCTION_INFO_V1(vault_create_secret);
PG_FUNCTION_INFO_V1(vault_rotate_secret);

static void
refuse_value(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the value of a secret reached the server unsealed and was refused"),
			 errdetail("Values are sealed by a hyperion-vault node before they reach PostgreSQL; here they could be logged."),
			 errhint("Connect to a node and write the value as a constant or parameter of the call itself; treat a value sent this way as disclosed."),
			 VAULT_HIDE));
}

/* The value argument as a record; anything else is refused. action: of a client's call. */
void
vault_record_arg(FunctionCallInfo fcinfo, int argno, VaultRecord *rec, const char *action)
{
	text	   *t;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the value of a secret must not be NULL"),
				 errhint("To remove a secret call vault.delete_secret()."),
				 VAULT_HIDE));
	t = PG_GETARG_TEXT_PP(argno);
	if (vault_record_parse(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), rec))
		return;
	if (action != NULL)
		vault_report(action, "failed", "unsealed", vault_name_or_empty(fcinfo, 0));
	refuse_value();
}

/* NULL asks the node to make a value; here it means that there is no node. */
static void
refuse_null_value(FunctionCallInfo fcinfo, const char *function, const char *action)
{
	vault_report(action, "failed", "unsealed", vault_name_or_empty(fcinfo, 0));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s without a value did not come through a node", function),
			 errhint("Connect to a hyperion-vault node: it makes the value and seals it."),
			 VAULT_HIDE));
}

void
vault_check_description(const text *t)
{
	if (t != NULL && VARSIZE_ANY_EXHDR(t) > VAULT_DESCRIPTION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the description is too long"),
				 errhint("It has at most %d bytes.", VAULT_DESCRIPTION_MAX),
				 VAULT_HIDE));
}

/* What a secret is made of is fixed when it is created. */
static void
check_format(const VaultRecord *rec, const VaultRow *row)
{
	if (row->live && row->userpass != (rec->value_format == VAULT_VALUE_USERPASS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the secret has another format than the record"),
				 errhint("A user name and password stay such, and any other value stays a value."),
				 VAULT_HIDE));
}

/*
 * Locks, checks the right again and takes the reservation, with its change. Who has
 * no right is told and reported so, whatever the record; who has reserved nothing
 * gets no lock, and hears of no secret.
 */
static void
claim(VaultAction action, const char *name, const VaultRecord *rec, bool node, VaultRow *row,
	  int64 *change)
{
	VaultClaim	result = VAULT_CLAIM_NONE;

	if (!node)
		vault_require_first(action, name);
	if (memcmp(rec->vault.data, vault_id()->data, UUID_LEN) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the record was sealed for another vault"),
				 errhint("The node's pinned vault id and vault.meta differ: see its readiness page."),
				 VAULT_HIDE));
	if (!node && rec->value_format == VAULT_VALUE_USERPASS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a user name and password cannot be written by this function"),
				 errhint("Use REST: POST /v1/secrets."),
				 VAULT_HIDE));
	if (rec->name.len == (int) strlen(name) && memcmp(rec->name.data, name, rec->name.len) == 0 &&
		vault_reserved(name) && vault_lock_name(name, false, row))
	{
		if (!node)
			vault_check_action(action, name, row);
		else
		{
			vault_check_state(action, name, row);
			check_format(rec, row);
		}
		result = vault_claim(action, name, row, rec, change);
	}
	if (result == VAULT_CLAIM_USED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the same sealed value was stored twice"),
				 errhint("A call that writes a secret must run once: not per row of a query, nor again in the same statement."),
				 VAULT_HIDE));
	if (result == VAULT_CLAIM_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the sealed value belongs to no version reserved in this transaction"),
				 errhint("Send the statement again through a node: a savepoint's rollback or another transaction may have taken the version."),
				 VAULT_HIDE));
}

/* The version before goes into its grace period. */
static void
supersede(const VaultRecord *rec)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		values[1] = {UUIDPGetDatum(&rec->secret)};

	vault_spi_run(&plan,
				  "UPDATE vault.secret_versions SET stage = 'previous', expires_at ="
				  " pg_catalog.now() OPERATOR(pg_catalog.+) COALESCE((SELECT s.grace_period"
				  " FROM vault.secrets s WHERE s.id OPERATOR(pg_catalog.=) $1),"
				  " '0'::pg_catalog.interval)"
				  " WHERE secret_id OPERATOR(pg_catalog.=) $1"
				  " AND stage OPERATOR(pg_catalog.=) 'current'",
				  1, types, values, NULL, SPI_OK_UPDATE);
}

/*
 * A version stored after a higher one (reserved together, run in another order)
 * is superseded from the start.
 */
static void
insert_version(const VaultRecord *rec, bool current)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, INT4OID, INT2OID, TEXTOID, BYTEAOID, BYTEAOID, BYTEAOID, BOOLOID};
	Datum		values[8] = {
		UUIDPGetDatum(&rec->secret),
		Int32GetDatum(rec->version),
		Int16GetDatum(rec->value_format),
		PointerGetDatum(cstring_to_text_with_len((const char *) rec->kms_key_id.data, rec->kms_key_id.len)),
		PointerGetDatum(cstring_to_text_with_len((const char *) rec->wrapped_dek.data, rec->wrapped_dek.len)),
		PointerGetDatum(cstring_to_text_with_len((const char *) rec->nonce.data, rec->nonce.len)),
		PointerGetDatum(cstring_to_text_with_len((const char *) rec->ciphertext.data, rec->ciphertext.len)),
		BoolGetDatum(current)
	};

	vault_spi_run(&plan,
				  "INSERT INTO vault.secret_versions (secret_id, version, value_format,"
				  " kms_key_id, wrapped_dek, nonce, ciphertext, stage, created_at, expires_at)"
				  " VALUES ($1, $2, $3, $4, $5, $6, $7,"
				  " CASE WHEN $8 THEN 'current' ELSE 'previous' END, pg_catalog.now(),"
				  " CASE WHEN $8 THEN NULL ELSE pg_catalog.now() OPERATOR(pg_catalog.+)"
				  " COALESCE((SELECT s.grace_period FROM vault.secrets s"
				  " WHERE s.id OPERATOR(pg_catalog.=) $1), '0'::pg_catalog.interval) END)",
				  8, types, values, NULL, SPI_OK_INSERT);
}

/* The row of a missing or deleted name becomes a living secret. */
static void
bear(const VaultRecord *rec, const VaultRow *row, const VaultTraits *traits)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, UUIDOID, TEXTOID, INTERVALOID, INTERVALOID, TEXTOID, INT4OID, TEXTOID};
	Datum		values[8] = {
		UUIDPGetDatum(&row->id),
		UUIDPGetDatum(&rec->secret),
		CStringGetTextDatum(traits->automatic ? "automatic" : "manual"),
		IntervalPGetDatum(traits->rotation_interval),
		IntervalPGetDatum(traits->grace_period),
		PointerGetDatum(traits->description),
		Int32GetDatum(rec->version),
		CStringGetTextDatum(rec->value_format == VAULT_VALUE_USERPASS ? "userpass" : "opaque")
	};
	char		nulls[9] = "        ";

	nulls[3] = traits->rotation_interval ? ' ' : 'n';
	nulls[4] = traits->grace_period ? ' ' : 'n';
	nulls[5] = traits->description ? ' ' : 'n';
	vault_spi_run(&plan,
				  "UPDATE vault.secrets SET id = $2, kind = $3, format = $8,"
				  " rotation_interval = $4, grace_period = $5, description = $6,"
				  " current_version = $7, next_rotation_at = " VAULT_NEXT_ROTATION("$4") ","
				  " allowed_cidrs = NULL,"
				  " deleted_at = NULL, created_at = pg_catalog.now(), updated_at = pg_catalog.now()"
				  " WHERE id OPERATOR(pg_catalog.=) $1",
				  8, types, values, nulls, SPI_OK_UPDATE);
}

/* A living secret moves on to a higher version, or takes a new description. */
static void
advance(const VaultRecord *rec, bool current, bool rotated, text *description)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, INT4OID, BOOLOID, TEXTOID, BOOLOID};
	Datum		values[5] = {
		UUIDPGetDatum(&rec->secret),
		Int32GetDatum(rec->version),
		BoolGetDatum(current),
		PointerGetDatum(description),
		BoolGetDatum(rotated)
	};

	vault_spi_run(&plan,
				  "UPDATE vault.secrets SET"
				  " current_version = CASE WHEN $3 THEN $2 ELSE current_version END,"
				  " description = COALESCE($4, description),"
				  " next_rotation_at = CASE WHEN $5 THEN " VAULT_NEXT_ROTATION("rotation_interval")
				  " ELSE next_rotation_at END,"
				  " updated_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) $1",
				  5, types, values, description ? NULL : "   n ", SPI_OK_UPDATE);
}

/*
 * What was due is done, whoever did it: a node that has claimed the job comes
 * too late.
 */
static void
close_job(const VaultRecord *rec)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		values[1] = {UUIDPGetDatum(&rec->secret)};

	vault_spi_run(&plan,
				  "UPDATE vault.rotation_jobs SET completed_at = pg_catalog.now(), error = NULL,"
				  " claim_token = NULL WHERE secret_id OPERATOR(pg_catalog.=) $1"
				  " AND completed_at IS NULL",
				  1, types, values, NULL, SPI_OK_UPDATE);
}

/* Checks and stores one record; returns its version. */
int32
vault_store(VaultAction action, const char *name, const VaultRecord *rec, const VaultTraits *traits)
{
	VaultRow	row;
	VaultCaller caller;
	VaultChange change = {
		.subject = name,
		.secret = &rec->secret,
		.version = rec->version,
		.role = GetUserId()
	};
	bool		current;

	PreventCommandIfParallelMode("writing a secret");
	claim(action, name, rec, traits->node, &row, &change.reserved);
	change.action = action == VAULT_ACTION_ROTATE ? "rotate" : row.live ? "update" : "create";
	current = !row.live || rec->version > row.current_version;

	vault_spi_begin(&caller);
	if (!row.live)
		bear(rec, &row, traits);
	else
	{
		if (current)
			supersede(rec);
		advance(rec, current, action == VAULT_ACTION_ROTATE, traits->description);
		if (action == VAULT_ACTION_ROTATE)
			close_job(rec);
	}
	insert_version(rec, current);
	vault_spi_end(&caller);
	vault_log_change(&change);
	vault_note_changed(&rec->secret, rec->version);
	return rec->version;
}

static text *
optional_text(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : PG_GETARG_TEXT_PP(argno);
}

Datum
vault_put_secret(PG_FUNCTION_ARGS)
{
	VaultRecord rec;
	VaultTraits traits = {0};
	char	   *name;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the value of a secret must not be NULL"),
				 errhint("Use vault.delete_secret() to remove a secret, vault.rotate_secret() for a new random value."),
				 VAULT_HIDE));
	vault_record_arg(fcinfo, 1, &rec, "update");
	PreventCommandIfReadOnly("vault.put_secret()");
	name = vault_name_arg(fcinfo, 0);
	traits.description = optional_text(fcinfo, 2);
	vault_check_description(traits.description);
	PG_RETURN_INT32(vault_store(VAULT_ACTION_PUT, name, &rec, &traits));
}

/*
 * Bounds as in the table's CHECKs. Those compare months as 30 days, so parts of
 * different sign may each reach beyond what can be added to a date.
 */
bool
vault_interval_in_bounds(const Interval *value, const char *min)
{
	return value->month >= 0 && value->day >= 0 && value->time >= 0 &&
		DatumGetBool(DirectFunctionCall2(interval_ge, IntervalPGetDatum(value), VAULT_INTERVAL(min))) &&
		DatumGetBool(DirectFunctionCall2(interval_le, IntervalPGetDatum(value), VAULT_INTERVAL("100 years")));
}

static Interval *
interval_arg(FunctionCallInfo fcinfo, int argno, const char *min, const char *what)
{
	Interval   *value = PG_ARGISNULL(argno) ? NULL : PG_GETARG_INTERVAL_P(argno);

	if (value == NULL || vault_interval_in_bounds(value, min))
		return value;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is out of range", what),
			 errhint("It is between %s and 100 years, without negative parts.", min),
			 VAULT_HIDE));
}

bool
vault_kind_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *t = optional_text(fcinfo, argno);
	int			len = t ? (int) VARSIZE_ANY_EXHDR(t) : 0;

	if (t && len == 9 && memcmp(VARDATA_ANY(t), "automatic", 9) == 0)
		return true;
	if (!t || len != 6 || memcmp(VARDATA_ANY(t), "manual", 6) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the kind of a secret is manual or automatic"),
				 errhint("The order is vault.create_secret(name, kind, value, ...); supabase/vault's was (value, name, ...). If a value stood in its place, treat it as disclosed."),
				 VAULT_HIDE));
	return false;
}

Datum
vault_create_secret(PG_FUNCTION_ARGS)
{
	VaultRecord rec;
	VaultTraits traits = {0};
	char	   *name;

	traits.automatic = vault_kind_arg(fcinfo, 1);
	if (PG_ARGISNULL(2))
		refuse_null_value(fcinfo, "vault.create_secret()", "create");
	vault_record_arg(fcinfo, 2, &rec, "create");
	PreventCommandIfReadOnly("vault.create_secret()");
	name = vault_name_arg(fcinfo, 0);
	traits.rotation_interval = interval_arg(fcinfo, 3, "1 second", "rotation_interval");
	traits.grace_period = interval_arg(fcinfo, 4, "0 seconds", "grace_period");
	if (traits.rotation_interval && !traits.automatic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a manual secret has no rotation_interval"),
				 errhint("Use kind => 'automatic' for a secret that is rotated."),
				 VAULT_HIDE));
	traits.description = optional_text(fcinfo, 5);
	vault_check_description(traits.description);
	PG_RETURN_INT32(vault_store(VAULT_ACTION_CREATE, name, &rec, &traits));
}

Datum
vault_rotate_secret(PG_FUNCTION_ARGS)
{
	VaultRecord rec;
	VaultTraits traits = {0};
	char	   *name;

	if (PG_ARGISNULL(1))
		refuse_null_value(fcinfo, "vault.rotate_secret()", "rotate");
	vault_record_arg(fcinfo, 1, &rec, "rotate");
	PreventCommandIfReadOnly("vault.rotate_secret()");
	name = vault_name_arg(fcinfo, 0);
	PG_RETURN_INT32(vault_store(VAULT_ACTION_ROTATE, name, &rec, &traits));
}

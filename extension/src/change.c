/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * change.c
 *		vault.changes: a row for each change of a secret, a right, a role or a token,
 *		written with it, whoever makes it and by whatever way. The audit compares
 *		them with the records of nodes.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(vault_log_change_sql);

/* An upgrade that is still to come brings the column. */
static bool
kept_here(void)
{
	return get_attnum(vault_relation("changes"), "subject") != InvalidAttrNumber;
}

/* The number of a row that is written later, or never. */
int64
vault_reserve_change(void)
{
	return nextval_internal(vault_relation("changes_id_seq"), false);
}

static Datum
role_datum(Oid role)
{
	NameData   *name = palloc0(sizeof(NameData));

	namestrcpy(name, GetUserNameFromId(role, false));
	return NameGetDatum(name);
}

static void
insert_row(int64 id, const VaultChange *change)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, UUIDOID, INT4OID, TEXTOID, NAMEOID, NAMEOID, TEXTOID};
	Datum		values[7] = {
		Int64GetDatum(id),
		UUIDPGetDatum(change->secret),
		Int32GetDatum(change->version),
		CStringGetTextDatum(change->action),
		role_datum(GetSessionUserId()),
		role_datum(change->role),
		CStringGetTextDatum(change->subject)
	};
	char		nulls[8] = "       ";

	nulls[1] = change->secret ? ' ' : 'n';
	nulls[2] = change->version ? ' ' : 'n';
	vault_spi_run(&plan,
				  "INSERT INTO vault.changes (id, secret_id, version, action, session_role, \"current_role\", subject)"
				  " VALUES ($1, $2, $3, $4, $5, $6, $7)",
				  7, types, values, nulls, SPI_OK_INSERT);
}

/*
 * Writes the row, and tells the node. It knows of one that it has reserved, and has
 * recorded it before it sent the value; but a client may reserve, too.
 */
void
vault_log_change(const VaultChange *change)
{
	VaultCaller caller;
	int64		id = change->reserved;

	if (!kept_here())
		return;
	if (id == 0)
		id = vault_reserve_change();
	vault_spi_begin(&caller);
	insert_row(id, change);
	vault_spi_end(&caller);
	vault_report_change(change->action, change->version, id, change->subject);
}

/*
 * For the functions in plpgsql, which are SECURITY DEFINER: whose right was used
 * is not seen from here, but for whom they run is.
 */
Datum
vault_log_change_sql(PG_FUNCTION_ARGS)
{
	VaultChange change = {
		.action = text_to_cstring(PG_GETARG_TEXT_PP(0)),
		.subject = text_to_cstring(PG_GETARG_TEXT_PP(1)),
		.role = GetOuterUserId()
	};

	vault_log_change(&change);
	PG_RETURN_VOID();
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * access.c
 *		grant_access and revoke_access: rows of vault.grants.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(vault_grant_access);
PG_FUNCTION_INFO_V1(vault_revoke_access);

typedef struct GrantArgs
{
	Oid			role;
	char	   *role_name;
	text	   *pattern;
	uint32		mask;
} GrantArgs;

static const char *
subject(const char *role_name, const text *pattern)
{
	return psprintf("%s %.*s", role_name, (int) VARSIZE_ANY_EXHDR(pattern), VARDATA_ANY(pattern));
}

/* The same of arguments that nobody has looked at: nothing, unless they can be told. */
static const char *
subject_arg(FunctionCallInfo fcinfo)
{
	char	   *role_name = PG_ARGISNULL(0) ? NULL : GetUserNameFromId(PG_GETARG_OID(0), true);
	text	   *pattern = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);

	if (role_name == NULL || pattern == NULL ||
		vault_pattern_fault(VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern)) != NULL)
		return "";
	return subject(role_name, pattern);
}

/* Only who has the rights of the extension's owner hands out rights. */
static void
require_owner(FunctionCallInfo fcinfo, const char *action)
{
	if (has_privs_of_role(GetUserId(), vault_owner()))
		return;
	vault_report(action, "denied", "denied", subject_arg(fcinfo));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to change access to secrets"),
			 errhint("Only a superuser or a role that has the privileges of the extension's owner may do this.")));
}

static void
log_change(const char *action, const GrantArgs *a)
{
	VaultChange change = {
		.action = action,
		.subject = subject(a->role_name, a->pattern),
		.role = GetUserId()
	};

	vault_log_change(&change);
}

static void
grant_args(FunctionCallInfo fcinfo, GrantArgs *a)
{
	const char *fault;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("role, pattern and actions must not be NULL"),
					 errhint("Write vault.grant_access('app', 'billing/*', 'read', 'list').")));
	a->role = PG_GETARG_OID(0);
	a->role_name = GetUserNameFromId(a->role, true);
	if (a->role_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", a->role),
				 errhint("Name an existing role; a group role can stand for all of its members.")));
	a->pattern = PG_GETARG_TEXT_PP(1);
	fault = vault_pattern_fault(VARDATA_ANY(a->pattern), VARSIZE_ANY_EXHDR(a->pattern));
	if (fault)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid pattern"),
				 errdetail("The rule broken: %s.", fault),
				 errhint("A pattern is an exact name, a prefix that ends in *, or * alone.")));
	a->mask = vault_actions_from_array(PG_GETARG_ARRAYTYPE_P(2));
	if (a->mask == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no action given"),
				 errhint("Actions are read, verify, list, create, update, rotate, delete, write and *.")));
}

static Datum
name_datum(const char *s)
{
	NameData   *n = palloc0(sizeof(NameData));

	namestrcpy(n, s);
	return NameGetDatum(n);
}

/* The mask already stored for exactly this role and pattern; locks the row. */
static bool
stored_mask(const GrantArgs *a, bool *same_role, uint32 *mask)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {NAMEOID, TEXTOID};
	Datum		values[2] = {name_datum(a->role_name), PointerGetDatum(a->pattern)};
	bool		isnull;

	if (vault_spi_run(&plan,
					  "SELECT role_oid, actions FROM vault.grants"
					  " WHERE role_name OPERATOR(pg_catalog.=) $1"
					  " AND pattern OPERATOR(pg_catalog.=) $2 FOR UPDATE",
					  2, types, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	*same_role = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
												SPI_tuptable->tupdesc, 1, &isnull)) == a->role;
	*mask = vault_actions_from_array(DatumGetArrayTypeP(
										SPI_getbinval(SPI_tuptable->vals[0],
													  SPI_tuptable->tupdesc, 2, &isnull)));
	return true;
}

/* Stores the first grant of this pattern; false: somebody else's came before it. */
static bool
store_first(const GrantArgs *a)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {OIDOID, NAMEOID, TEXTOID, TEXTARRAYOID};
	Datum		values[4] = {ObjectIdGetDatum(a->role), name_datum(a->role_name),
		PointerGetDatum(a->pattern), PointerGetDatum(vault_actions_to_array(a->mask))};

	return vault_spi_run(&plan,
						 "INSERT INTO vault.grants (role_oid, role_name, pattern, actions)"
						 " VALUES ($1, $2, $3, $4) ON CONFLICT (role_name, pattern) DO NOTHING",
						 4, types, values, NULL, SPI_OK_INSERT) > 0;
}

/* Replaces what is stored; stored_mask() has locked it. */
static void
store_mask(const GrantArgs *a, uint32 mask)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {OIDOID, NAMEOID, TEXTOID, TEXTARRAYOID};
	Datum		values[4] = {ObjectIdGetDatum(a->role), name_datum(a->role_name),
		PointerGetDatum(a->pattern), PointerGetDatum(vault_actions_to_array(mask))};

	vault_spi_run(&plan,
				  "UPDATE vault.grants SET role_oid = $1, actions = $4, granted_at = DEFAULT, granted_by = DEFAULT"
				  " WHERE role_name OPERATOR(pg_catalog.=) $2 AND pattern OPERATOR(pg_catalog.=) $3",
				  4, types, values, NULL, SPI_OK_UPDATE);
}

static void
remove_row(const GrantArgs *a)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {NAMEOID, TEXTOID};
	Datum		values[2] = {name_datum(a->role_name), PointerGetDatum(a->pattern)};

	vault_spi_run(&plan,
				  "DELETE FROM vault.grants WHERE role_name OPERATOR(pg_catalog.=) $1"
				  " AND pattern OPERATOR(pg_catalog.=) $2",
				  2, types, values, NULL, SPI_OK_DELETE);
}

Datum
vault_grant_access(PG_FUNCTION_ARGS)
{
	GrantArgs	a;
	VaultCaller caller;
	bool		same_role;
	uint32		old = 0;

	PreventCommandIfReadOnly("vault.grant_access()");
	require_owner(fcinfo, "grant");
	grant_args(fcinfo, &a);

	vault_spi_begin(&caller);
	for (;;)
	{
		if (stored_mask(&a, &same_role, &old))
		{
			/* What a dropped role of this name was given does not come back. */
			if (!same_role)
				old = 0;
			if ((a.mask & ~old) != 0)
				store_mask(&a, a.mask | old);
			break;
		}
		if (store_first(&a))
			break;
	}
	vault_spi_end(&caller);
	if ((a.mask & ~old) != 0)
		log_change("grant", &a);
	PG_RETURN_VOID();
}

Datum
vault_revoke_access(PG_FUNCTION_ARGS)
{
	GrantArgs	a;
	VaultCaller caller;
	bool		same_role;
	uint32		old = 0;
	bool		changes;

	PreventCommandIfReadOnly("vault.revoke_access()");
	require_owner(fcinfo, "revoke");
	grant_args(fcinfo, &a);

	vault_spi_begin(&caller);
	changes = stored_mask(&a, &same_role, &old) && (!same_role || (old & a.mask) != 0);
	if (changes && same_role && (old & ~a.mask) != 0)
		store_mask(&a, old & ~a.mask);
	else if (changes)
		remove_row(&a);
	vault_spi_end(&caller);
	if (changes)
		log_change("revoke", &a);

	/* Other patterns and other roles' grants stay: say so rather than let the
	 * caller believe that a right is gone. */
	if ((old & a.mask) == 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING_PRIVILEGE_NOT_REVOKED),
				 errmsg("role \"%s\" had none of these rights by exactly this pattern", a.role_name),
				 errhint("See vault.effective_access for rights by other patterns or memberships.")));
	PG_RETURN_VOID();
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * lock.c
 *		Writing as the owner, and the row lock on a name.
 *
 * App roles have no privilege on any table: what they may do is checked in C,
 * then the writing is done as the owner. Every SQL text here and in the other
 * files qualifies names and operators, for the caller's search_path is in force.
 */
#include "vault.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* More turns than a name can plausibly appear and vanish under us. */
#define MAX_TURNS 8

void
vault_become_owner(VaultCaller *caller)
{
	GetUserIdAndSecContext(&caller->user, &caller->sec_context);
	SetUserIdAndSecContext(vault_owner(), caller->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
}

/* After an error the transaction's abort does this by itself. */
void
vault_become_caller(const VaultCaller *caller)
{
	SetUserIdAndSecContext(caller->user, caller->sec_context);
}

void
vault_spi_begin(VaultCaller *caller)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	vault_become_owner(caller);
}

void
vault_spi_end(const VaultCaller *caller)
{
	vault_become_caller(caller);
	SPI_finish();
}

/*
 * Runs a statement, whose plan is kept in *plan for this backend's life, and
 * returns the number of rows.
 */
int
vault_spi_run(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types,
			  Datum *values, const char *nulls, int expect)
{
	int			rc;

	if (*plan == NULL)
	{
		SPIPlanPtr	p = SPI_prepare(sql, nargs, unconstify(Oid *, types));

		if (p == NULL)
			elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
		if (SPI_keepplan(p) != 0)
			elog(ERROR, "could not keep a plan");
		*plan = p;
	}
	rc = SPI_execute_plan(*plan, values, nulls, false, 0);
	if (rc != expect)
		elog(ERROR, "unexpected result of a statement: %s", SPI_result_code_string(rc));
	return (int) SPI_processed;
}

static bool
select_row(Datum name, VaultRow *row)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID};
	HeapTuple	tuple;
	TupleDesc	desc;
	bool		isnull;

	if (vault_spi_run(&plan,
					  "SELECT id, current_version, deleted_at IS NULL,"
					  " kind OPERATOR(pg_catalog.=) 'automatic',"
					  " format OPERATOR(pg_catalog.=) 'userpass'"
					  " FROM vault.secrets WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
					  1, types, &name, NULL, SPI_OK_SELECT) == 0)
		return false;
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	/* All columns are NOT NULL. */
	memcpy(&row->id, DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull)), sizeof(pg_uuid_t));
	row->current_version = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	row->live = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
	row->automatic = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
	row->userpass = DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
	return true;
}

/* A row that reads as missing until a put gives it a version. */
static void
insert_placeholder(Datum name)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID};

	vault_spi_run(&plan,
				  "INSERT INTO vault.secrets (id, name, kind, current_version, deleted_at)"
				  " VALUES (pg_catalog.gen_random_uuid(), $1, 'manual', 0, pg_catalog.now())"
				  " ON CONFLICT (name) DO NOTHING",
				  1, types, &name, NULL, SPI_OK_INSERT);
}

/*
 * Locks the row of a name until the transaction ends. The unique index on the
 * name is the lock: with create a missing row is inserted, else false is
 * returned. Advisory locks would not do, any role may take them.
 */
static bool
lock_name(const char *name, bool create, VaultRow *row)
{
	VaultCaller caller;
	Datum		d = CStringGetTextDatum(name);
	bool		found;

	vault_spi_begin(&caller);
	found = select_row(d, row);
	for (int turn = 0; !found && create; turn++)
	{
		if (turn == MAX_TURNS)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not lock the secret's name"),
					 errhint("Other transactions create and undo this secret; try again."),
					 VAULT_HIDE));
		insert_placeholder(d);
		found = select_row(d, row);
	}
	vault_spi_end(&caller);
	return found;
}

/* lock_name, for no longer than hyperion_vault.lock_wait. */
bool
vault_lock_name(const char *name, bool create, VaultRow *row)
{
	ErrorContextCallback context;
	bool		found;

	PG_TRY();
	{
		vault_wait_begin(&context);
		found = lock_name(name, create, row);
		vault_wait_end();
	}
	PG_CATCH();
	{
		vault_wait_abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();				/* takes the context off */
	return found;
}

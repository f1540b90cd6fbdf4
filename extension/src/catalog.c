/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * catalog.c
 *		Where our tables are, whose they are, and the vault's id.
 *
 * OIDs are looked up at each call: after DROP and CREATE EXTENSION in a living
 * session everything must go on working.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Watched relations: what was read from them is stale when one changes. */
#define MAX_WATCHED 4
static Oid	watched[MAX_WATCHED];
static uint64 generation = 1;

static pg_uuid_t cached_id;
static uint64 cached_id_generation = 0;

static void
report_no_extension(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s does not exist in this database", what),
			 errhint("Run CREATE EXTENSION hyperion_vault here, or connect to the database that holds the vault.")));
}

Oid
vault_schema(void)
{
	Oid			nsp = get_namespace_oid("vault", true);

	if (!OidIsValid(nsp))
		report_no_extension("schema vault");
	return nsp;
}

/* The OID of a table or index of ours. */
Oid
vault_relation(const char *name)
{
	Oid			relid = get_relname_relid(name, vault_schema());

	if (!OidIsValid(relid))
		report_no_extension(psprintf("relation vault.%s", name));
	return relid;
}

Oid
vault_sealed_type(void)
{
	Oid			typid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
										CStringGetDatum("sealed"),
										ObjectIdGetDatum(vault_schema()));

	if (!OidIsValid(typid))
		report_no_extension("type vault.sealed");
	return typid;
}

/* The owner of the tables, as whom all writing is done. */
Oid
vault_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(vault_relation("secrets")));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		report_no_extension("table vault.secrets");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
on_relcache_change(Datum arg, Oid relid)
{
	if (OidIsValid(relid))
	{
		int			i;

		for (i = 0; i < MAX_WATCHED && watched[i] != relid; i++)
			;
		if (i == MAX_WATCHED)
			return;
	}
	generation++;
}

/*
 * From now on the generation moves when this relation changes. A slot is taken
 * over in turn: only the OIDs that exist now matter, and a change of one that
 * went away has moved the generation already.
 */
void
vault_watch(Oid relid)
{
	static bool registered = false;
	static int	next = 0;
	int			i;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(on_relcache_change, (Datum) 0);
		registered = true;
	}
	for (i = 0; i < MAX_WATCHED; i++)
		if (watched[i] == relid)
			return;
	watched[next] = relid;
	next = (next + 1) % MAX_WATCHED;
}

/* Takes note of changes by others; compare with the one seen while reading. */
uint64
vault_watch_generation(void)
{
	AcceptInvalidationMessages();
	return generation;
}

/*
 * The vault's id, from the one row of vault.meta. Read with a fresh snapshot
 * (NULL): under the caller's an old row could be kept as if it were new.
 */
const pg_uuid_t *
vault_id(void)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	uint64		seen;
	bool		found = false;

	if (cached_id_generation == vault_watch_generation())
		return &cached_id;

	vault_watch(vault_relation("meta"));
	rel = table_open(vault_relation("meta"), AccessShareLock);
	seen = vault_watch_generation();
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		d = heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull);

		if (!isnull)
		{
			memcpy(&cached_id, DatumGetUUIDP(d), sizeof(pg_uuid_t));
			found = true;
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the vault has no id yet"),
				 errhint("Run \"hyperion-vault init\" once for this cluster.")));
	cached_id_generation = seen;
	return &cached_id;
}

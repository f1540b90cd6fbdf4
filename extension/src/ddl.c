/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ddl.c
 *		No stored column may have type vault.sealed: an event trigger, and a hook
 *		for what EXPLAIN ANALYZE makes, which fires none.
 *
 * A stored value could only ever raise, and it breaks pg_dump of its table. The
 * stamp is what keeps a carried-off value shut; this says so early.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_event_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(vault_refuse_sealed_columns);

#define EVENT_TRIGGER "hyperion_vault_no_sealed_columns"

static object_access_hook_type next_object_access_hook = NULL;

static bool holds_sealed(Oid typid, Oid sealed);

/* Does a column hold the type in any depth? Its name, or NULL. */
static char *
sealed_attribute(TupleDesc desc, Oid sealed)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		CHECK_FOR_INTERRUPTS();
		if (!att->attisdropped && holds_sealed(att->atttypid, sealed))
			return pstrdup(NameStr(att->attname));
	}
	return NULL;
}

/*
 * The same of a relation. It stays locked, as the newest servers keep it by
 * themselves: a view that was looked at must not get such a column before the table
 * that is to have its rows can be seen.
 */
static char *
sealed_column(Oid relid, Oid sealed)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	char	   *found;

	if (rel == NULL)
		return NULL;
	found = sealed_attribute(RelationGetDescr(rel), sealed);
	relation_close(rel, NoLock);
	return found;
}

/* Domains, arrays, row types and ranges are looked through. */
static bool
holds_sealed(Oid typid, Oid sealed)
{
	Oid			inner;

	check_stack_depth();
	typid = getBaseType(typid);
	if (typid == sealed)
		return true;
	inner = get_element_type(typid);
	if (!OidIsValid(inner))
		inner = get_range_subtype(typid);
	if (!OidIsValid(inner))
		inner = get_multirange_range(typid);
	if (OidIsValid(inner))
		return holds_sealed(inner, sealed);
	inner = get_typ_typrelid(typid);
	return OidIsValid(inner) && sealed_column(inner, sealed) != NULL;
}

static bool
stores_columns(char relkind)
{
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
		case RELKIND_FOREIGN_TABLE:
		case RELKIND_COMPOSITE_TYPE:
			return true;
		default:
			return false;
	}
}

static void
refuse(const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("column \"%s\" cannot have type vault.sealed", column),
			 errdetail("A sealed secret can be printed only in the transaction that read it, so it cannot be stored."),
			 errhint("Store the secret's name and select vault.read_secret(name) where the value is needed.")));
}

/* One object that the command made or changed. */
static void
check_object(Oid classid, Oid objid, Oid sealed)
{
	Oid			relid = InvalidOid;
	char		relkind;
	char	   *column;

	/* CREATE TYPE comes as the type, everything else as the relation. */
	if (classid == TypeRelationId)
		relid = get_typ_typrelid(objid);
	else if (classid == RelationRelationId)
		relid = objid;
	relkind = OidIsValid(relid) ? get_rel_relkind(relid) : 0;
	if (relkind != RELKIND_VIEW && !stores_columns(relkind))
		return;
	column = sealed_column(relid, sealed);
	if (column == NULL)
		return;
	/* A view may have such columns, but no stored column its rows. */
	if (relkind == RELKIND_VIEW)
		find_composite_type_dependencies(get_rel_type_id(relid), NULL, get_rel_name(relid));
	else
		refuse(column);
}

Datum
vault_refuse_sealed_columns(PG_FUNCTION_ARGS)
{
	Oid			sealed;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		elog(ERROR, "not called by the event trigger manager");
	sealed = vault_sealed_type();

	SPI_connect();
	if (SPI_execute("SELECT classid, objid FROM pg_catalog.pg_event_trigger_ddl_commands()",
					false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the DDL commands");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		null1,
					null2;
		Datum		classid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null1);
		Datum		objid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &null2);

		if (!null1 && !null2)
			check_object(DatumGetObjectId(classid), DatumGetObjectId(objid), sealed);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/* Not where there is no vault, nor where a superuser has switched it off. */
static bool
event_trigger_enabled(void)
{
	HeapTuple	tuple = SearchSysCache1(EVENTTRIGGERNAME, CStringGetDatum(EVENT_TRIGGER));
	bool		enabled;

	if (!HeapTupleIsValid(tuple))
		return false;
	enabled = ((Form_pg_event_trigger) GETSTRUCT(tuple))->evtenabled != TRIGGER_DISABLED;
	ReleaseSysCache(tuple);
	return enabled;
}

/* A relation that was made just now; the catalogs do not show it yet. */
static void
check_new_relation(Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);
	char	   *column = NULL;

	if (rel == NULL)
		return;
	if (stores_columns(rel->rd_rel->relkind) && event_trigger_enabled())
		column = sealed_attribute(RelationGetDescr(rel), vault_sealed_type());
	RelationClose(rel);
	if (column != NULL)
		refuse(column);
}

/* What is internal is made of what is there: a table that is written anew. */
static void
on_object_access(ObjectAccessType access, Oid classid, Oid objid, int subid, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, classid, objid, subid, arg);
	if (access == OAT_POST_CREATE && classid == RelationRelationId && subid == 0 &&
		!((ObjectAccessPostCreate *) arg)->is_internal)
		check_new_relation(objid);
}

void
vault_ddl_init(void)
{
	next_object_access_hook = object_access_hook;
	object_access_hook = on_object_access;
}

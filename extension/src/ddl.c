/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ddl.c
 *		Event trigger: no stored column may have type vault.sealed.
 *
 * A stored value could only ever raise, and it breaks pg_dump of its table. The
 * stamp is what keeps a carried-off value shut; this says so early.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(vault_refuse_sealed_columns);

static bool holds_sealed(Oid typid, Oid sealed);

/* Does a column of relid hold the type in any depth? Its name, or NULL. */
static char *
sealed_column(Oid relid, Oid sealed)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	char	   *found = NULL;

	if (rel == NULL)
		return NULL;
	for (int i = 0; found == NULL && i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		CHECK_FOR_INTERRUPTS();
		if (!att->attisdropped && holds_sealed(att->atttypid, sealed))
			found = pstrdup(NameStr(att->attname));
	}
	relation_close(rel, AccessShareLock);
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
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" cannot have type vault.sealed", column),
				 errdetail("A sealed secret can be printed only in the transaction that read it, so it cannot be stored."),
				 errhint("Store the secret's name and select vault.read_secret(name) where the value is needed.")));
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

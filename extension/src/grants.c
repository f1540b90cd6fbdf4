/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * grants.c
 *		Who may do what: a per-backend list of vault.grants.
 *
 * The list is read with a fresh snapshot, never the caller's: under REPEATABLE
 * READ old rows would be taken for new ones and a revoked right would stay. A
 * statement trigger (vault_forget_cached, ENABLE ALWAYS) sends a relcache
 * message, which also reaches standbys.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(vault_forget_cached);
PG_FUNCTION_INFO_V1(vault_allowed_sql);

enum
{
	Anum_grants_role_oid = 1,
	Anum_grants_role_name,
	Anum_grants_pattern,
	Anum_grants_actions
};

typedef struct Grant
{
	Oid			role;
	NameData	role_name;
	uint32		actions;
	int			len;			/* of the pattern, without its final * */
	char	   *pattern;		/* zero-terminated */
} Grant;

typedef struct GrantList
{
	MemoryContext context;
	int			nexact;
	int			nprefix;
	Grant	   *exact;			/* sorted by pattern */
	Grant	   *prefix;
} GrantList;

static GrantList list;
static uint64 list_generation = 0;

static const struct
{
	const char *word;
	uint32		mask;
}			actions[] = {
	{"read", VAULT_READ},
	{"verify", VAULT_VERIFY},
	{"list", VAULT_LIST},
	{"create", VAULT_CREATE},
	{"update", VAULT_UPDATE},
	{"rotate", VAULT_ROTATE},
	{"delete", VAULT_DELETE},
	{"write", VAULT_WRITE},
	{"*", VAULT_ALL}
};

/* The basic actions come first in the array above. */
#define BASIC_ACTIONS 7

bool
vault_action_parse(const char *s, int len, uint32 *mask)
{
	for (size_t i = 0; i < lengthof(actions); i++)
	{
		if (strlen(actions[i].word) == (size_t) len && memcmp(actions[i].word, s, len) == 0)
		{
			*mask = actions[i].mask;
			return true;
		}
	}
	return false;
}

static const char *
action_word(uint32 action)
{
	for (size_t i = 0; i < lengthof(actions); i++)
		if (actions[i].mask == action)
			return actions[i].word;
	return "write";
}

/* The union of an array's actions; an unknown or NULL one is 22023. */
uint32
vault_actions_from_array(ArrayType *a)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	uint32		all = 0;

	deconstruct_array(a, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		text	   *t = nulls[i] ? NULL : DatumGetTextPP(elems[i]);
		uint32		mask;

		if (t == NULL || !vault_action_parse(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), &mask))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown action"),
					 errhint("Actions are read, verify, list, create, update, rotate, delete, write (create and update) and *.")));
		all |= mask;
	}
	return all;
}

/* As stored: basic actions, or {*} for all of them. */
ArrayType *
vault_actions_to_array(uint32 mask)
{
	Datum		words[BASIC_ACTIONS];
	int			n = 0;

	if (mask == VAULT_ALL)
		words[n++] = CStringGetTextDatum("*");
	else
		for (int i = 0; i < BASIC_ACTIONS; i++)
			if (mask & actions[i].mask)
				words[n++] = CStringGetTextDatum(actions[i].word);
	return construct_array(words, n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* AFTER trigger on vault.grants and vault.meta. */
Datum
vault_forget_cached(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "not called by the trigger manager");
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}

static int
compare_grants(const void *a, const void *b)
{
	return strcmp(((const Grant *) a)->pattern, ((const Grant *) b)->pattern);
}

static void
add_grant(GrantList *l, int *size, HeapTuple tuple, TupleDesc desc)
{
	Datum		values[Anum_grants_actions];
	bool		isnull;
	Grant		g;

	for (int i = 0; i < Anum_grants_actions; i++)
	{
		values[i] = heap_getattr(tuple, i + 1, desc, &isnull);
		if (isnull)
			return;
	}
	g.role = DatumGetObjectId(values[Anum_grants_role_oid - 1]);
	g.role_name = *DatumGetName(values[Anum_grants_role_name - 1]);
	g.actions = vault_actions_from_array(DatumGetArrayTypeP(values[Anum_grants_actions - 1]));
	g.pattern = TextDatumGetCString(values[Anum_grants_pattern - 1]);
	g.len = strlen(g.pattern);

	if (l->nexact + l->nprefix >= *size)
	{
		*size *= 2;
		l->exact = repalloc_huge(l->exact, *size * sizeof(Grant));
		l->prefix = repalloc_huge(l->prefix, *size * sizeof(Grant));
	}
	if (g.len > 0 && g.pattern[g.len - 1] == '*')
	{
		g.pattern[--g.len] = '\0';
		l->prefix[l->nprefix++] = g;
	}
	else
		l->exact[l->nexact++] = g;
}

/* Reads all grants into a new context, which replaces the old one at the end. */
static void
load_grants(void)
{
	GrantList	fresh = {0};
	int			size = 64;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	MemoryContext old;
	uint64		seen;
	Oid			relid = vault_relation("grants");

	vault_watch(relid);
	rel = table_open(relid, AccessShareLock);
	seen = vault_watch_generation();

	/* A child of the current context until it is complete: an error frees it. */
	fresh.context = AllocSetContextCreate(CurrentMemoryContext, "hyperion_vault grants",
										  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(fresh.context);
	fresh.exact = palloc(size * sizeof(Grant));
	fresh.prefix = palloc(size * sizeof(Grant));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		add_grant(&fresh, &size, tuple, RelationGetDescr(rel));
	}
	systable_endscan(scan);
	MemoryContextSwitchTo(old);
	table_close(rel, AccessShareLock);

	/* From about a thousand grants on, most are exact names. */
	qsort(fresh.exact, fresh.nexact, sizeof(Grant), compare_grants);
	MemoryContextSetParent(fresh.context, CacheMemoryContext);
	if (list.context != NULL)
		MemoryContextDelete(list.context);
	list = fresh;
	list_generation = seen;
}

/*
 * Does the current user have this grant? The OID counts only under the name it
 * was granted to: a dropped role's OID may come back as somebody else's.
 */
static bool
grant_holds(const Grant *g, uint32 action, Oid user)
{
	HeapTuple	tuple;
	bool		same;

	if ((g->actions & action) == 0)
		return false;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(g->role));
	if (!HeapTupleIsValid(tuple))
		return false;
	same = namestrcmp(&((Form_pg_authid) GETSTRUCT(tuple))->rolname, NameStr(g->role_name)) == 0;
	ReleaseSysCache(tuple);
	return same && has_privs_of_role(user, g->role);
}

/* May the current user do this to that name? action is one basic action. */
bool
vault_allowed(uint32 action, const char *name)
{
	Oid			user = GetUserId();
	int			len = strlen(name);
	int			lo = 0;
	int			hi;

	vault_tell_role();
	if (superuser_arg(user))
		return true;
	if (list_generation != vault_watch_generation())
		load_grants();

	for (int i = 0; i < list.nprefix; i++)
	{
		const Grant *g = &list.prefix[i];

		if (g->len <= len && memcmp(g->pattern, name, g->len) == 0 &&
			grant_holds(g, action, user))
			return true;
	}
	/* The first exact entry not below name. */
	hi = list.nexact;
	while (lo < hi)
	{
		int			mid = lo + (hi - lo) / 2;

		if (strcmp(list.exact[mid].pattern, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < list.nexact && strcmp(list.exact[lo].pattern, name) == 0; lo++)
		if (grant_holds(&list.exact[lo], action, user))
			return true;
	return false;
}

/* 42501 unless one of the basic actions in action is allowed. */
void
vault_require(uint32 action, const char *name)
{
	for (int i = 0; i < BASIC_ACTIONS; i++)
		if ((action & actions[i].mask) && vault_allowed(actions[i].mask, name))
			return;
	/* A put: whether there is such a secret is not known here. */
	vault_report(action == VAULT_WRITE ? "update" : action_word(action), "denied", "denied", name);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied: role \"%s\" may not %s this secret",
					GetUserNameFromId(GetUserId(), false), action_word(action)),
			 errhint("An administrator can allow it with vault.grant_access(role, pattern, '%s').",
					 action_word(action)),
			 VAULT_HIDE));
}

Datum
vault_allowed_sql(PG_FUNCTION_ARGS)
{
	text	   *word = PG_GETARG_TEXT_PP(0);
	text	   *name = PG_GETARG_TEXT_PP(1);
	uint32		mask;
	char	   *s;

	if (!vault_action_parse(VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word), &mask))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown action"),
				 errhint("Actions are read, verify, list, create, update, rotate, delete, write and *.")));
	if (vault_name_fault(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) != NULL)
		PG_RETURN_BOOL(false);
	s = text_to_cstring(name);
	/* A combined action is allowed if all of its parts are. */
	for (int i = 0; i < BASIC_ACTIONS; i++)
		if ((mask & actions[i].mask) && !vault_allowed(actions[i].mask, s))
			PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(true);
}

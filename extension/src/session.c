/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * session.c
 *		session_state: what a session carries from one statement to the next,
 *		so that a node can make an equal session on another server.
 *
 * It comes out of the server's memory, not from reading the client's SETs, and
 * none of the client's code runs: texts are copied, nothing is evaluated. The
 * same state gives the same rows in the same order, whatever the server.
 */
#include "vault.h"

#include <link.h>

#include "catalog/pg_authid.h"
#include "commands/prepare.h"
#include "common/shortest_dec.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/scansup.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/plancache.h"

PG_FUNCTION_INFO_V1(vault_session_state);

/* Of each word this many are named: one is enough to stay where one is. */
#define MAX_NAMED 8

/*
 * Not the session's to carry: what nodes set themselves, and what is said to be
 * of the session for ever once a transaction has set it.
 */
static const char *const left_out[] = {
	"hyperion_vault.client_addr", "hyperion_vault.joined",
	"seed", "transaction_deferrable", "transaction_isolation", "transaction_read_only"
};

static void
put_row(VaultRows *rows, const char *kind, const char *name, const char *value, const char *detail)
{
	const char *cols[] = {kind, name, value, detail};
	Datum		values[lengthof(cols)];
	bool		nulls[lengthof(cols)];

	for (size_t i = 0; i < lengthof(cols); i++)
	{
		nulls[i] = cols[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(cols[i]);
	}
	tuplestore_putvalues(rows->store, rows->desc, values, nulls);
}

static void
put_immovable(VaultRows *rows, const char *word, const char *name)
{
	put_row(rows, "immovable", word, name, NULL);
}

/* ---- settings ---- */

/* A pointer of our own to each variable: before 16 the array is the server's. */
static struct config_generic **
all_settings(int *n)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(n);
#else
	struct config_generic **copy;

	*n = GetNumConfigOptions();
	copy = palloc(*n * sizeof(*copy));
	memcpy(copy, get_guc_variables(), *n * sizeof(*copy));
	return copy;
#endif
}

/*
 * The order in which they can be set again: the encoding before all texts, then
 * who the session is, which may end the right to set the others; the session's
 * user before the role, because it resets that.
 */
static int
turn_of(const char *name)
{
	if (strcmp(name, "client_encoding") == 0)
		return 0;
	if (strcmp(name, "session_authorization") == 0)
		return 2;
	if (strcmp(name, "role") == 0)
		return 3;
	return 1;
}

static int
by_turn(const void *a, const void *b)
{
	const char *x = (*(struct config_generic *const *) a)->name;
	const char *y = (*(struct config_generic *const *) b)->name;

	if (turn_of(x) != turn_of(y))
		return turn_of(x) - turn_of(y);
	return strcmp(x, y);
}

static bool
set_in_session(const struct config_generic *setting)
{
	if (setting->source != PGC_S_SESSION)
		return false;
	for (size_t i = 0; i < lengthof(left_out); i++)
		if (strcmp(setting->name, left_out[i]) == 0)
			return false;
	return true;
}

/*
 * Could this session set it once more? Not what a superuser set before SET
 * SESSION AUTHORIZATION, nor what a SECURITY DEFINER function did in his name.
 */
static bool
may_set(const struct config_generic *setting)
{
	if (setting->context == PGC_USERSET)
		return true;
	if (setting->context != PGC_SUSET)
		return false;
#if PG_VERSION_NUM >= 150000
	return pg_parameter_aclcheck(setting->name, GetSessionUserId(), ACL_SET) == ACLCHECK_OK;
#else
	return superuser_arg(GetSessionUserId());
#endif
}

static bool
may_see(const struct config_generic *setting)
{
	return (setting->flags & GUC_SUPERUSER_ONLY) == 0 ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS);
}

/*
 * In base units, as set_config() takes it. A real in as many digits as it
 * needs: GetConfigOption gives six.
 */
static const char *
value_of(struct config_generic *setting)
{
	const char *value;

	if (setting->vartype == PGC_REAL)
		return double_to_shortest_decimal(*((struct config_real *) setting)->variable);
	value = GetConfigOption(setting->name, true, false);
	return value ? value : "";
}

static void
put_settings(VaultRows *rows)
{
	int			n;
	struct config_generic **all = all_settings(&n);
	int			kept = 0;

	for (int i = 0; i < n; i++)
		if (set_in_session(all[i]))
			all[kept++] = all[i];
	qsort(all, kept, sizeof(*all), by_turn);
	for (int i = 0; i < kept; i++)
		if (may_set(all[i]) && may_see(all[i]))
			put_row(rows, "setting", all[i]->name, value_of(all[i]), NULL);
	for (int i = 0; i < kept; i++)
		if (!may_set(all[i]) || !may_see(all[i]))
			put_immovable(rows, "setting", all[i]->name);
	pfree(all);
}

/* ---- what cannot be carried ---- */

static int
has_base_name(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *name = arg;
	const char *slash = strrchr(info->dlpi_name, '/');
	const char *base = slash ? slash + 1 : info->dlpi_name;
	size_t		len = strlen(name);

	return strncmp(base, name, len) == 0 && strcmp(base + len, ".so") == 0;
}

/* Is this library in the process? Asked of the linker: only 18 could tell. */
static bool
is_loaded(char *name)
{
	return dl_iterate_phdr(has_base_name, name) != 0;
}

/*
 * A language other than plpgsql keeps values between statements, dblink keeps
 * connections. Outside a block, where nodes ask, all advisory locks are the
 * session's. The temporary schema itself outlives its objects.
 */
static const char *const immovable_sql =
"SELECT i.word, i.name FROM ("
" SELECT 'cursor', c.name FROM pg_catalog.pg_cursor() c WHERE c.is_holdable"
" UNION ALL SELECT 'listen', l.channel FROM pg_catalog.pg_listening_channels() l (channel)"
" UNION ALL SELECT 'advisory_lock', pg_catalog.format('%s/%s/%s', k.classid, k.objid, k.objsubid)"
"  FROM pg_catalog.pg_lock_status() k WHERE k.locktype OPERATOR(pg_catalog.=) 'advisory'"
"  AND k.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
" UNION ALL SELECT 'temp_object', pg_catalog.format('%s %s', o.type, o.identity)"
"  FROM pg_catalog.pg_depend d"
"  CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) o"
"  WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
"  AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"
" UNION ALL SELECT 'library', 'dblink'"
" UNION ALL SELECT 'library', h.name FROM ("
"  SELECT DISTINCT pg_catalog.regexp_replace(p.probin, '^.*/|[.]so$', '', 'g')"
"  FROM pg_catalog.pg_language t JOIN pg_catalog.pg_proc p"
"  ON p.oid OPERATOR(pg_catalog.=) t.lanplcallfoid WHERE p.probin IS NOT NULL) h (name)"
"  WHERE h.name OPERATOR(pg_catalog.<>) 'plpgsql'"
" ) i (word, name) ORDER BY i.word COLLATE pg_catalog.\"C\", i.name COLLATE pg_catalog.\"C\"";

static void
select_rows(const char *sql)
{
	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the session's state");
}

static char *
column(uint64 row, int col)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col);
}

static void
put_immovables(VaultRows *rows)
{
	const char *last = "";
	int			named = 0;

	select_rows(immovable_sql);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *word = column(i, 1);
		char	   *name = column(i, 2);

		if (strcmp(word, "library") == 0 && !is_loaded(name))
			continue;
		if (strcmp(word, last) != 0)
			named = 0;
		last = word;
		if (named++ < MAX_NAMED)
			put_immovable(rows, word, name);
	}
}

/* ---- prepared statements ---- */

/*
 * The text of PREPARE is kept as that of its whole Query: cut out the one
 * statement with its semicolon, so that it can be sent by itself, and be shown
 * as it was.
 */
static char *
own_text(const CachedPlanSource *source)
{
	const char *start = source->query_string;
	const char *end;
	int			len = 0;

	if (source->raw_parse_tree)
	{
		start += Max(source->raw_parse_tree->stmt_location, 0);
		len = source->raw_parse_tree->stmt_len;
	}
	end = start + (len > 0 ? (size_t) len : strlen(start));
	if (*end == ';')
		end++;
	while (start < end && scanner_isspace(*start))
		start++;
	while (start < end && scanner_isspace(end[-1]))
		end--;
	return pnstrdup(start, end - start);
}

/* The OIDs, as an array is written. */
static char *
parameter_types(const CachedPlanSource *source)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < source->num_params; i++)
		appendStringInfo(&buf, "%c%u", i == 0 ? '{' : ',', source->param_types[i]);
	appendStringInfoString(&buf, source->num_params == 0 ? "{}" : "}");
	return buf.data;
}

static void
put_prepared(VaultRows *rows)
{
	select_rows("SELECT p.name FROM pg_catalog.pg_prepared_statement() p"
				" ORDER BY p.name COLLATE pg_catalog.\"C\"");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *name = column(i, 1);
		PreparedStatement *stmt = FetchPreparedStatement(name, true);
		CachedPlanSource *source = stmt->plansource;

		if (stmt->from_sql)
			put_row(rows, "prepare", name, own_text(source), parameter_types(source));
		else
			put_row(rows, "parse", name, source->query_string, parameter_types(source));
	}
}

/*
 * A plan around what the session has disabled costs so much that the server
 * would compile it, for a second.
 */
static int
without_jit(void)
{
	int			nest = NewGUCNestLevel();

	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/* The settings first: later the caller's rights are not ours. */
Datum
vault_session_state(PG_FUNCTION_ARGS)
{
	VaultRows	rows = vault_begin_rows(fcinfo);
	VaultCaller caller;
	int			nest;

	put_settings(&rows);
	vault_spi_begin(&caller);
	nest = without_jit();
	put_immovables(&rows);
	put_prepared(&rows);
	AtEOXact_GUC(true, nest);
	vault_spi_end(&caller);
	return (Datum) 0;
}

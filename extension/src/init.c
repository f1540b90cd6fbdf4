/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * init.c
 *		Library start: every setting, the hooks, and under preload the worker.
 */
#include "vault.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

bool		vault_rotation_enabled = true;
int			vault_scan_interval_secs = 30;
char	   *vault_database;
int			vault_lock_wait = 5000;
int			vault_lock_hold = 5000;
int			vault_proxy_login = VAULT_LOGIN_USERS;
char	   *vault_client_addr_setting;
bool		vault_node_session = false;
int			vault_audit_min_age = 90 * 86400;
bool		vault_preloaded = false;

static bool joined;

static const struct config_enum_entry proxy_login_options[] = {
	{"users", VAULT_LOGIN_USERS, false},
	{"all", VAULT_LOGIN_ALL, false},
	{NULL, 0, false}
};

/*
 * The worker's settings. Without rotation_enabled due secrets are not enqueued;
 * versions past their grace period are deleted all the same.
 */
static void
define_worker_settings(void)
{
	DefineCustomBoolVariable("hyperion_vault.rotation_enabled",
							 "Enqueues due rotations.",
							 NULL, &vault_rotation_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hyperion_vault.scan_interval_secs",
							"Time between two looks for due rotations.",
							NULL, &vault_scan_interval_secs, 30, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("hyperion_vault.database",
							   "Database that holds the vault.",
							   NULL, &vault_database, "postgres",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*
 * lock_wait is the caller's own patience. lock_hold bounds how long a silent
 * node may keep a name from everybody else: not the caller's to raise.
 */
static void
define_lock_settings(void)
{
	DefineCustomIntVariable("hyperion_vault.lock_wait",
							"How long a write waits for another one of the same secret.",
							NULL, &vault_lock_wait, 5000, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("hyperion_vault.lock_hold",
							"How long a session that has reserved a version may keep the server waiting for its next message.",
							NULL, &vault_lock_hold, 5000, 100, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Written by nodes in front of a Query that must join a transaction. */
	DefineCustomBoolVariable("hyperion_vault.joined",
							 "Has no meaning: nodes set it to keep a transaction together.",
							 NULL, &joined, false,
							 PGC_USERSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
}

/*
 * Nodes send it with each connection, with an empty value if there is no address;
 * nobody else has a reason to. From there it can come but once.
 */
static bool
check_client_addr(char **newval, void **extra, GucSource source)
{
	if (source == PGC_S_CLIENT)
		vault_node_session = true;
	return true;
}

static void
define_login_settings(void)
{
	DefineCustomEnumVariable("hyperion_vault.proxy_login",
							 "Which roles may log in through a node: users (neither SUPERUSER nor REPLICATION nor BYPASSRLS) or all.",
							 NULL, &vault_proxy_login, VAULT_LOGIN_USERS, proxy_login_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* A node's claim, for logs and the operator's own policies. */
	DefineCustomStringVariable("hyperion_vault.client_addr",
							   "Address of the client behind the node.",
							   NULL, &vault_client_addr_setting, "",
							   PGC_BACKEND, GUC_NOT_IN_SAMPLE, check_client_addr, NULL, NULL);
}

/* Nobody who can call prune_audit() may shorten it. */
static void
define_audit_settings(void)
{
	DefineCustomIntVariable("hyperion_vault.audit_min_age",
							"Age from which on audit records may be deleted.",
							NULL, &vault_audit_min_age, 90 * 86400, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

/*
 * All settings are defined in every process: a reserved prefix with a setting
 * that is not defined warns in each session.
 */
void
_PG_init(void)
{
	define_worker_settings();
	define_lock_settings();
	define_login_settings();
	define_audit_settings();
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved("hyperion_vault");
#else
	EmitWarningsOnPlaceholders("hyperion_vault");
#endif

	vault_ddl_init();

	vault_preloaded = process_shared_preload_libraries_in_progress;
	/* pg_upgrade's servers are asked by it alone. */
	if (vault_preloaded && !IsBinaryUpgrade)
	{
		vault_login_init();
		vault_worker_init();
	}
}

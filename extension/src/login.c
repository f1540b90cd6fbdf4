/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * login.c
 *		login_verifier: the SCRAM verifier of a role that may log in through a
 *		node. EXECUTE is the service role's only.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "libpq/crypt.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(vault_login_verifier);

/*
 * Bounds what a stolen service password can collect, far above the log-ins that
 * a server can do: each costs it thousands of hashes and a new process.
 */
#define VERIFIERS_PER_SECOND 1000
#define VERIFIERS_BURST 2000

/* Over all backends if the library is preloaded, else of this one. */
typedef struct Bucket
{
	slock_t		mutex;
	double		tokens;
	TimestampTz filled_at;
} Bucket;

static Bucket *shared_bucket = NULL;
static Bucket own_bucket;

#if PG_VERSION_NUM >= 150000
static shmem_request_hook_type prev_request = NULL;
#endif
static shmem_startup_hook_type prev_startup = NULL;

static void
init_bucket(Bucket *b)
{
	SpinLockInit(&b->mutex);
	b->tokens = VERIFIERS_BURST;
	b->filled_at = GetCurrentTimestamp();
}

static void
request_shmem(void)
{
#if PG_VERSION_NUM >= 150000
	if (prev_request)
		prev_request();
#endif
	RequestAddinShmemSpace(MAXALIGN(sizeof(Bucket)));
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_startup)
		prev_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared_bucket = ShmemInitStruct("hyperion_vault log-ins", sizeof(Bucket), &found);
	if (!found)
		init_bucket(shared_bucket);
	LWLockRelease(AddinShmemInitLock);
}

void
vault_login_init(void)
{
#if PG_VERSION_NUM >= 150000
	prev_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
#else
	request_shmem();
#endif
	prev_startup = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

static void
take_token(void)
{
	Bucket	   *b = shared_bucket ? shared_bucket : &own_bucket;
	TimestampTz now = GetCurrentTimestamp();
	bool		taken;

	if (b == &own_bucket && b->filled_at == 0)
		init_bucket(b);
	SpinLockAcquire(&b->mutex);
	if (now > b->filled_at)
		b->tokens += (double) (now - b->filled_at) / USECS_PER_SEC * VERIFIERS_PER_SECOND;
	b->filled_at = now;			/* also if the clock was set back */
	if (b->tokens > VERIFIERS_BURST)
		b->tokens = VERIFIERS_BURST;
	taken = b->tokens >= 1;
	if (taken)
		b->tokens -= 1;
	SpinLockRelease(&b->mutex);
	if (!taken)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many log-ins through nodes"),
				 errhint("At most %d a second are served; try again.", VERIFIERS_PER_SECOND)));
}

/* May this role log in through a node, by password, now? */
static bool
may_log_in(HeapTuple tuple)
{
	Form_pg_authid role = (Form_pg_authid) GETSTRUCT(tuple);
	Datum		until;
	bool		isnull;

	if (!role->rolcanlogin)
		return false;
	if (vault_proxy_login != VAULT_LOGIN_ALL &&
		(role->rolsuper || role->rolreplication || role->rolbypassrls))
		return false;
	until = SysCacheGetAttr(AUTHNAME, tuple, Anum_pg_authid_rolvaliduntil, &isnull);
	return isnull || DatumGetTimestampTz(until) >= GetCurrentTimestamp();
}

/* NULL: unknown, may not, no SCRAM password, or expired: one and the same. */
Datum
vault_login_verifier(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *verifier = NULL;
	HeapTuple	tuple;

	take_token();
	if (strlen(name) >= NAMEDATALEN)
		PG_RETURN_NULL();
	tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(name));
	if (!HeapTupleIsValid(tuple))
		PG_RETURN_NULL();
	if (may_log_in(tuple))
	{
		bool		isnull;
		Datum		d = SysCacheGetAttr(AUTHNAME, tuple, Anum_pg_authid_rolpassword, &isnull);

		if (!isnull)
			verifier = TextDatumGetCString(d);
	}
	ReleaseSysCache(tuple);
	if (verifier == NULL || get_password_type(verifier) != PASSWORD_TYPE_SCRAM_SHA_256)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(verifier));
}

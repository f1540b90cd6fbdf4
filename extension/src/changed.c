/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * changed.c
 *		Tells listeners on vault_changed of each version that was stored and of
 *		each secret that was deleted.
 *
 * Sent at commit, not by the call: PREPARE TRANSACTION refuses a transaction
 * that has notified. What is sent is the secret's uuid and the version, 0 for a
 * deletion; never a name, for anybody may listen.
 */
#include "vault.h"

#include "access/xact.h"
#include "commands/async.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

/* Of the queue. Once it is full whoever notifies cannot commit. */
#define NEARLY_FULL 0.9

typedef struct Change
{
	struct Change *next;
	pg_uuid_t	secret;
	int32		version;
	SubTransactionId made;
} Change;

/* Newest first, in TopTransactionContext. */
static Change *changes = NULL;

/*
 * Anybody can fill the queue: listen, and stay in a transaction. A hint is not
 * worth the write that it is of.
 */
static bool
nearly_full(void)
{
	if (DatumGetFloat8(OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE)) < NEARLY_FULL)
		return false;
	ereport(WARNING,
			(errmsg("listeners on vault_changed are not told, for the queue of notifications is nearly full"),
			 errhint("A session that listens keeps a transaction open: end it, and have caches of secrets read again."),
			 VAULT_HIDE));
	return true;
}

/* In the order in which they were made. */
static void
notify_all(void)
{
	Change	   *oldest = NULL;

	if (changes == NULL || nearly_full())
		return;
	while (changes != NULL)
	{
		Change	   *next = changes->next;

		changes->next = oldest;
		oldest = changes;
		changes = next;
	}
	for (const Change *c = oldest; c != NULL; c = c->next)
		Async_Notify("vault_changed",
					 psprintf("%s %d",
							  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&c->secret))),
							  c->version));
}

static void
on_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			notify_all();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			changes = NULL;
			break;
		default:
			break;
	}
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	/* The newest ones are first, and nobody's are older than his parent's. */
	if (event == SUBXACT_EVENT_ABORT_SUB)
		while (changes != NULL && changes->made == mine)
			changes = changes->next;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (Change *c = changes; c != NULL && c->made == mine; c = c->next)
			c->made = parent;
}

/* Version 0: the secret is gone. */
void
vault_note_changed(const pg_uuid_t *secret, int32 version)
{
	static bool registered = false;
	Change	   *c;

	if (!registered)
	{
		RegisterXactCallback(on_xact, NULL);
		RegisterSubXactCallback(on_subxact, NULL);
		registered = true;
	}
	c = MemoryContextAlloc(TopTransactionContext, sizeof(Change));
	c->next = changes;
	c->secret = *secret;
	c->version = version;
	c->made = GetCurrentSubTransactionId();
	changes = c;
}

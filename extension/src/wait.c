/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * wait.c
 *		The bound of a wait for a name.
 *
 * lock_timeout bounds each lock, and a row takes two of them one after the
 * other: behind a waiter one queues for the row, then waits for whoever holds
 * it. So a timer of our own bounds the whole.
 */
#include "vault.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"

static bool registered = false;
static TimeoutId wait_timeout;
static volatile sig_atomic_t expired = false;

/* Runs in a signal handler: sets flags, nothing else. */
static void
on_expiry(void)
{
	expired = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

/* A context callback: makes the timer's cancel what lock_timeout says. */
static void
explain(void *arg)
{
	if (expired && geterrcode() == ERRCODE_QUERY_CANCELED)
	{
		errcode(ERRCODE_LOCK_NOT_AVAILABLE);
		errmsg("canceling statement due to lock timeout");
	}
	if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
		errhint("Another transaction is writing this secret. Try again, or raise hyperion_vault.lock_wait.");
}

/* To be called within PG_TRY; context lives as long as that. */
void
vault_wait_begin(ErrorContextCallback *context)
{
	/* Not in _PG_init: timeouts are initialised after it under preload. */
	if (!registered)
	{
		wait_timeout = RegisterTimeout(USER_TIMEOUT, on_expiry);
		registered = true;
	}
	context->previous = error_context_stack;
	context->callback = explain;
	context->arg = NULL;
	error_context_stack = context;
	expired = false;
	enable_timeout_after(wait_timeout, vault_lock_wait);
}

/* Raises 55P03 if the lock came, but with the timer's cancel. */
void
vault_wait_end(void)
{
	disable_timeout(wait_timeout, false);
	CHECK_FOR_INTERRUPTS();
}

/* For PG_CATCH: whatever the error was, the statement ends with it. */
void
vault_wait_abandon(void)
{
	disable_timeout(wait_timeout, false);
	if (expired)
		QueryCancelPending = false;
	expired = false;
}

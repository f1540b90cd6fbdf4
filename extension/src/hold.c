/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * hold.c
 *		The timer over a held name.
 *
 * A node that reserved a version and then went silent (suspended, cut off)
 * would hold the name for ever: no timeout of PostgreSQL ends a wait for the
 * client inside a pipeline that was flushed but not synced. So a reservation
 * ticks every lock_hold / 5 until its transaction ends, and the backend is
 * ended once it has waited for its client for lock_hold at a stretch. A running
 * statement moves the start time or waits for something else, and a block that
 * is idle after its ReadyForQuery says so; both are left alone.
 */
#include "vault.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/backend_status.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

#define TICKS 5

static bool registered = false;
static TimeoutId hold_timeout;
static int	silent_ticks;
static TimestampTz last_start;

static int
tick_ms(void)
{
	return Max(vault_lock_hold / TICKS, 1);
}

static bool
waits_for_client(void)
{
	if (*(volatile uint32 *) my_wait_event_info != WAIT_EVENT_CLIENT_READ)
		return false;
	return MyBEEntry == NULL ||
		(MyBEEntry->st_state != STATE_IDLEINTRANSACTION &&
		 MyBEEntry->st_state != STATE_IDLEINTRANSACTION_ABORTED);
}

/* Runs in a signal handler: looks at memory, sets flags, nothing else. */
static void
on_tick(void)
{
	TimestampTz start = GetCurrentStatementStartTimestamp();

	/* The silence that the first tick finds has lasted up to one tick already. */
	if (!waits_for_client())
		silent_ticks = 0;
	else if (start == last_start)
		silent_ticks++;
	else
		silent_ticks = 1;
	last_start = start;
	if (silent_ticks > TICKS)
	{
		InterruptPending = true;
		ProcDiePending = true;
		SetLatch(MyLatch);
	}
#if PG_VERSION_NUM < 150000
	else
		enable_timeout_after(hold_timeout, tick_ms());
#endif
}

void
vault_hold_arm(void)
{
	/* Not in _PG_init: timeouts are initialised after it under preload. */
	if (!registered)
	{
		hold_timeout = RegisterTimeout(USER_TIMEOUT, on_tick);
		registered = true;
	}
	/* An error that reached the main loop has disarmed all timeouts. */
	if (get_timeout_active(hold_timeout))
		return;
	silent_ticks = 0;
	last_start = GetCurrentStatementStartTimestamp();
#if PG_VERSION_NUM >= 150000
	enable_timeout_every(hold_timeout,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), tick_ms()),
						 tick_ms());
#else
	enable_timeout_after(hold_timeout, tick_ms());
#endif
}

void
vault_hold_disarm(void)
{
	if (registered && get_timeout_active(hold_timeout))
		disable_timeout(hold_timeout, false);
}

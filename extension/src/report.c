/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * report.c
 *		What the node is told of what was done, or refused, in a session of its:
 *		a ParameterStatus that it takes for its audit and does not pass on.
 *
 * It is in front of the statement's answer, wherever the call stood: in a view, a
 * function, a block that is rolled back later. Other clients would ignore it, and
 * are not sent it. Its text is in the database's encoding.
 */
#include "vault.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "libpq/pqformat.h"
#include "tcop/tcopprot.h"

#define DID "hyperion_vault.did"

/* Of what changes nothing: whoever asks in a loop is heard, but not all the time. */
#define MAX_REPORTS 1000		/* a statement */

/* "ACTION OUTCOME REASON VERSION CHANGE SUBJECT", the subject to the end. */
static void
report(const char *action, const char *outcome, const char *reason, int32 version, int64 change,
	   const char *subject)
{
	StringInfoData buf;
	char	   *did;

	if (!vault_node_session || whereToSendOutput != DestRemote || IsParallelWorker())
		return;
	did = psprintf("%s %s %s %d " INT64_FORMAT " %s", action, outcome, reason, version, change, subject);
	pq_beginmessage(&buf, 'S');
	pq_sendbytes(&buf, DID, sizeof(DID));
	pq_sendbytes(&buf, did, strlen(did) + 1);
	pq_endmessage(&buf);
	pfree(did);
}

void
vault_report_change(const char *action, int32 version, int64 change, const char *subject)
{
	report(action, "ok", "-", version, change, subject);
}

/* Something was asked for, and nothing was changed. */
void
vault_report(const char *action, const char *outcome, const char *reason, const char *subject)
{
	static TimestampTz statement = 0;
	static int	reports = 0;

	if (statement != GetCurrentStatementStartTimestamp())
	{
		statement = GetCurrentStatementStartTimestamp();
		reports = 0;
	}
	if (reports > MAX_REPORTS)
		return;
	if (reports++ == MAX_REPORTS)
		reason = "and_more";
	report(action, outcome, reason, 0, 0, subject);
}

/* The client gets one answer for both; the node is told which it is. */
void
vault_report_absent(const char *action, bool allowed, const char *name)
{
	if (allowed)
		vault_report(action, "failed", "missing", name);
	else
		vault_report(action, "denied", "denied", name);
}

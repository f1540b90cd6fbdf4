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

/* Their headers need not be here for a Port that nobody looks into. */
#undef ENABLE_GSS
#undef USE_OPENSSL

#include "access/parallel.h"
#include "access/xact.h"
#include "libpq/libpq.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/portal.h"

#define DID "hyperion_vault.did"
#define ROLE "hyperion_vault.role"
#define BYPASSES "hyperion_vault.bypasses"

/*
 * Of what was denied, of what is missing, and of lists with nothing in them: it takes
 * no right to ask for them in a loop, so whoever does is heard, but not all the time.
 */
#define MAX_REPORTS 1000		/* a statement, each */

typedef struct Budget
{
	TimestampTz message;
	int			location;		/* of the statement in the client's text */
	int			used;
} Budget;

/* A change was reported in this transaction. */
static bool told = false;

/* Is there a node that listens? */
static bool
is_told(void)
{
	return vault_node_session && whereToSendOutput == DestRemote && !IsParallelWorker();
}

static void
tell(const char *name, int namelen, const char *what)
{
	StringInfoData buf;

	pq_beginmessage(&buf, 'S');
	pq_sendbytes(&buf, name, namelen);
	pq_sendbytes(&buf, what, strlen(what) + 1);
	pq_endmessage(&buf);
}

/*
 * The role that SET ROLE has chosen, and whether grants and policies are for it, in
 * front of what is done in it: the server tells of no change of that by itself. At
 * first it is who has logged in.
 */
void
vault_tell_role(void)
{
	static Oid	last = InvalidOid;
	Oid			role = GetOuterUserId();
	char	   *name;

	if (!OidIsValid(last))
		last = GetAuthenticatedUserId();
	if (role == last || !is_told() || (name = GetUserNameFromId(role, true)) == NULL)
		return;
	tell(ROLE, sizeof(ROLE), name);
	tell(BYPASSES, sizeof(BYPASSES), has_bypassrls_privilege(role) ? "on" : "off");
	last = role;
	pfree(name);
}

/* "ACTION OUTCOME REASON VERSION CHANGE SUBJECT", the subject to the end. */
static void
report(const char *action, const char *outcome, const char *reason, int32 version, int64 change,
	   const char *subject)
{
	char	   *did;

	if (!is_told())
		return;
	vault_tell_role();
	did = psprintf("%s %s %s %d " INT64_FORMAT " %s", action, outcome, reason, version, change, subject);
	tell(DID, sizeof(DID), did);
	pfree(did);
}

/*
 * What was done is told before it is committed: a block may commit, and be left by
 * its client long before it ends. Who does not read is not waited for.
 */
static void
tell_before_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && told)
		pq_flush_if_writable();
	if (event != XACT_EVENT_PARALLEL_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		told = false;
}

void
vault_report_change(const char *action, int32 version, int64 change, const char *subject)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(tell_before_commit, NULL);
	registered = true;
	report(action, "ok", "-", version, change, subject);
	told = whereToSendOutput == DestRemote;
}

/* Something was asked for, done, and nothing was changed by it. */
void
vault_report_done(const char *action, const char *subject)
{
	report(action, "ok", "-", 0, 0, subject);
}

/* Where in the client's text the statement begins that runs now. */
static int
statement_location(void)
{
	if (ActivePortal == NULL || ActivePortal->stmts == NIL)
		return -1;
	return linitial_node(PlannedStmt, ActivePortal->stmts)->stmt_location;
}

static void
report_within(Budget *b, const char *action, const char *outcome, const char *reason, const char *subject)
{
	TimestampTz message = GetCurrentStatementStartTimestamp();
	int			location = statement_location();

	if (b->message != message || b->location != location)
		*b = (Budget) {message, location, 0};
	if (b->used > MAX_REPORTS)
		return;
	if (b->used++ == MAX_REPORTS)
		reason = "and_more";
	report(action, outcome, reason, 0, 0, subject);
}

/* Something was asked for, and not done. */
void
vault_report(const char *action, const char *outcome, const char *reason, const char *subject)
{
	static Budget denied;
	static Budget failed;

	report_within(strcmp(outcome, "denied") == 0 ? &denied : &failed, action, outcome, reason, subject);
}

/* A list without a row: done, but nobody needs a right for it. */
void
vault_report_empty(const char *action, const char *subject)
{
	static Budget empty;

	report_within(&empty, action, "ok", "-", subject);
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

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * version.c
 *		next_version: locks a name and reserves version numbers of it for this
 *		transaction; the record sealed for exactly that id and number is then
 *		taken once, in any order.
 */
#include "vault.h"

#include <limits.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(vault_next_version);

/* One call reserves at most as many versions as a message can carry values. */
#define MAX_RESERVED 65535

typedef struct Reservation
{
	struct Reservation *next;
	char		name[VAULT_NAME_MAX + 1];
	VaultAction action;
	pg_uuid_t	id;
	bool		fresh;			/* id is new: the name was not living */
	pg_uuid_t	tomb;			/* then: the id that its row had */
	int32		first;
	int32		n;
	int64	   *changes;		/* one a version; NULL: numbered when it is stored */
	SubTransactionId made;
	SubTransactionId used[FLEXIBLE_ARRAY_MEMBER];	/* 0: not stored yet */
} Reservation;

/* Newest first, in TopTransactionContext. */
static Reservation *reservations = NULL;

static void
on_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			reservations = NULL;
			vault_hold_disarm();
			break;
		default:
			break;
	}
}

/* An error that reached the main loop has disarmed the timer of those that stay. */
static void
rearm(void)
{
	if (reservations != NULL)
		vault_hold_arm();
}

/*
 * A rolled back savepoint takes its row locks with it: somebody else may have
 * the number now. What it stored is gone, so those numbers are free again.
 */
static void
abort_sub(SubTransactionId sub)
{
	Reservation **link = &reservations;

	while (*link != NULL)
	{
		Reservation *r = *link;

		if (r->made == sub)
		{
			*link = r->next;
			continue;
		}
		for (int32 i = 0; i < r->n; i++)
			if (r->used[i] == sub)
				r->used[i] = InvalidSubTransactionId;
		link = &r->next;
	}
	rearm();
}

static void
commit_sub(SubTransactionId sub, SubTransactionId parent)
{
	for (Reservation *r = reservations; r != NULL; r = r->next)
	{
		if (r->made == sub)
			r->made = parent;
		for (int32 i = 0; i < r->n; i++)
			if (r->used[i] == sub)
				r->used[i] = parent;
	}
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		abort_sub(mine);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		commit_sub(mine, parent);
	/* ROLLBACK TO starts it anew: behind further errors in the aborted block. */
	else if (event == SUBXACT_EVENT_START_SUB)
		rearm();
}

static void
watch_transactions(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(on_xact, NULL);
	RegisterSubXactCallback(on_subxact, NULL);
	registered = true;
}

/* What is refused whoever asks. */
void
vault_check_state(VaultAction action, const char *name, const VaultRow *row)
{
	if (action == VAULT_ACTION_CREATE && row->live)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("secret already exists"),
				 errhint("Use vault.put_secret() to add a version."),
				 VAULT_HIDE));
	if (action != VAULT_ACTION_ROTATE)
		return;
	if (!row->live)
		vault_missing(name);
	if (!row->automatic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a manual secret cannot be rotated"),
				 errhint("Use vault.put_secret() to give it a new value."),
				 VAULT_HIDE));
}

/*
 * The right without which a call is refused before its name is looked up: what it
 * answers and reports is of the caller's own rights, and tells of no secret.
 */
void
vault_require_first(VaultAction action, const char *name)
{
	uint32		need = VAULT_WRITE;

	if (action == VAULT_ACTION_CREATE)
		need = VAULT_CREATE;
	else if (action == VAULT_ACTION_ROTATE)
		need = VAULT_ROTATE;
	vault_require(need, name);
}

/*
 * The right that an action needs now that the lock says whether the name lives;
 * and what is refused whoever asks.
 */
void
vault_check_action(VaultAction action, const char *name, const VaultRow *row)
{
	uint32		need = row->live ? VAULT_UPDATE : VAULT_CREATE;

	if (action == VAULT_ACTION_CREATE)
		need = VAULT_CREATE;
	else if (action == VAULT_ACTION_ROTATE)
		need = VAULT_ROTATE;
	vault_require(need, name);
	if (action == VAULT_ACTION_ROTATE && !row->live)
		vault_report_absent("rotate", true, name);
	vault_check_state(action, name, row);
	if (row->live && row->userpass)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a user name and password cannot be written by this function"),
				 errhint("Use REST: PUT /v1/secrets/{name} or POST /v1/secrets/{name}/rotate."),
				 VAULT_HIDE));
}

static pg_uuid_t
random_uuid(void)
{
	pg_uuid_t	id;

	vault_random(id.data, UUID_LEN);
	id.data[6] = (id.data[6] & 0x0f) | 0x40;
	id.data[8] = (id.data[8] & 0x3f) | 0x80;
	return id;
}

static bool
same_uuid(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN) == 0;
}

static Reservation *
reserve(VaultAction action, const char *name, const VaultRow *row, int n)
{
	int64		first = (int64) row->current_version + 1;
	const Reservation *again = NULL;
	Reservation *r;

	for (Reservation *o = reservations; o != NULL; o = o->next)
	{
		if (strcmp(o->name, name) != 0)
			continue;
		first = Max(first, (int64) o->first + o->n);
		/* Reserved before and not yet born: the same new secret. */
		if (!row->live && o->fresh && same_uuid(&o->tomb, &row->id))
			again = o;
	}
	if (first + n - 1 > INT_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the secret has no version numbers left"),
				 errhint("Use another name.")));

	r = MemoryContextAllocZero(TopTransactionContext,
							   offsetof(Reservation, used) + n * sizeof(SubTransactionId));
	strlcpy(r->name, name, sizeof(r->name));
	r->action = action;
	r->fresh = !row->live;
	r->tomb = row->id;
	r->id = row->live ? row->id : again ? again->id : random_uuid();
	r->first = (int32) first;
	r->n = n;
	r->made = GetCurrentSubTransactionId();
	r->next = reservations;
	reservations = r;
	return r;
}

/*
 * Reserves n versions of a locked name for this transaction. Returns the first,
 * and the id of the secret that they are of.
 */
int32
vault_reserve(VaultAction action, const char *name, const VaultRow *row, int n, pg_uuid_t *id)
{
	Reservation *r;

	watch_transactions();
	r = reserve(action, name, row, n);
	vault_hold_arm();
	*id = r->id;
	return r->first;
}

/* Whether this transaction has reserved a version of a name, for whatever action. */
bool
vault_reserved(const char *name)
{
	for (const Reservation *r = reservations; r != NULL; r = r->next)
		if (strcmp(r->name, name) == 0)
			return true;
	return false;
}

/*
 * Takes the reserved version that rec was sealed for, and the number of the change
 * that goes with it (0: none yet). Marked with the current subtransaction, so an
 * error in what follows gives it back.
 */
VaultClaim
vault_claim(VaultAction action, const char *name, const VaultRow *row, const VaultRecord *rec,
			int64 *change)
{
	for (Reservation *r = reservations; r != NULL; r = r->next)
	{
		SubTransactionId *used;

		if (r->action != action || strcmp(r->name, name) != 0 ||
			!same_uuid(&r->id, &rec->secret) ||
			rec->version < r->first || rec->version - r->first >= r->n)
			continue;
		used = &r->used[rec->version - r->first];
		if (*used != InvalidSubTransactionId)
			return VAULT_CLAIM_USED;
		/* The name was deleted, or given to another secret, since then. */
		if (!same_uuid(&row->id, row->live ? &r->id : &r->tomb) || (!row->live && !r->fresh))
			return VAULT_CLAIM_NONE;
		*used = GetCurrentSubTransactionId();
		*change = r->changes ? r->changes[rec->version - r->first] : 0;
		return VAULT_CLAIM_OK;
	}
	return VAULT_CLAIM_NONE;
}

static VaultAction
action_arg(FunctionCallInfo fcinfo, int argno)
{
	char	   *word = PG_ARGISNULL(argno) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(argno));

	if (strcmp(word, "put") == 0)
		return VAULT_ACTION_PUT;
	if (strcmp(word, "create") == 0)
		return VAULT_ACTION_CREATE;
	if (strcmp(word, "rotate") == 0)
		return VAULT_ACTION_ROTATE;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown action"),
			 errhint("The actions of vault.next_version() are put, create and rotate.")));
}

/*
 * Numbers the changes of the newest reservation: the node records each version with
 * its own before it sends the value.
 */
static Datum
reserve_changes(void)
{
	Reservation *r = reservations;
	Datum	   *numbers = palloc(r->n * sizeof(Datum));

	r->changes = MemoryContextAlloc(TopTransactionContext, r->n * sizeof(int64));
	for (int32 i = 0; i < r->n; i++)
	{
		r->changes[i] = vault_reserve_change();
		numbers[i] = Int64GetDatum(r->changes[i]);
	}
	return PointerGetDatum(construct_array(numbers, r->n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum
vault_next_version(PG_FUNCTION_ARGS)
{
	char	   *name = vault_name_arg(fcinfo, 0);
	int32		n = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	VaultAction action = action_arg(fcinfo, 2);
	VaultRow	row;
	pg_uuid_t	id;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (n < 1 || n > MAX_RESERVED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of versions to reserve is out of range"),
				 errhint("It is 1 to %d.", MAX_RESERVED)));
	PreventCommandIfReadOnly("vault.next_version()");
	PreventCommandIfParallelMode("vault.next_version()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "next_version must return a row");
	(void) vault_id();

	/*
	 * Without the first check anybody could hold any name; without the second a
	 * create right would do for a name that came to life while waiting.
	 */
	vault_require_first(action, name);
	if (!vault_lock_name(name, action != VAULT_ACTION_ROTATE, &row))
	{
		vault_report_absent("rotate", true, name);
		vault_missing(name);
	}
	vault_check_action(action, name, &row);

	values[1] = Int32GetDatum(vault_reserve(action, name, &row, n, &id));
	values[0] = UUIDPGetDatum(&id);
	if (desc->natts > 2)		/* before 1.7 it returned no more */
		values[2] = reserve_changes();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

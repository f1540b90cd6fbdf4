/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sealed.c
 *		Type vault.sealed: a record that only this backend, this transaction and
 *		this role can print.
 *
 * A value holds a stamp: 16 random bytes of the backend that read it, its outer
 * role and its local transaction id. Output checks all three and never shows
 * them. Without it CREATE TABLE AS would hand the plaintext to whoever may
 * select the new table through a node.
 */
#include "vault.h"

#include "access/parallel.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/lock.h"
#include "storage/proc.h"

PG_FUNCTION_INFO_V1(vault_sealed_in);
PG_FUNCTION_INFO_V1(vault_sealed_out);
PG_FUNCTION_INFO_V1(vault_sealed_recv);
PG_FUNCTION_INFO_V1(vault_sealed_send);
PG_FUNCTION_INFO_V1(vault_sealed_cast);

#define STAMP_LEN 16

typedef struct Sealed
{
	int32		vl_len_;		/* varlena header, never short: storage is plain */
	uint8		stamp[STAMP_LEN];
	Oid			outer_role;
	LocalTransactionId lxid;
	char		txt[FLEXIBLE_ARRAY_MEMBER];
} Sealed;

static LocalTransactionId
current_lxid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

void
vault_random(void *dst, size_t len)
{
	if (!pg_strong_random(dst, len))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random bytes"),
				 errhint("The operating system's random source failed; see the server's log.")));
}

/*
 * This backend's stamp. Made at first use and never in _PG_init: under preload
 * all backends would share it.
 */
static const uint8 *
backend_stamp(void)
{
	static uint8 stamp[STAMP_LEN];
	static int	made_by = 0;

	if (made_by != MyProcPid)
	{
		vault_random(stamp, STAMP_LEN);
		made_by = MyProcPid;
	}
	return stamp;
}

/* The one way in which a value of the type comes to be. */
struct varlena *
vault_seal_stamp(const VaultRecord *rec)
{
	int			len = vault_record_text_len(rec);
	Sealed	   *s = palloc(offsetof(Sealed, txt) + len);

	SET_VARSIZE(s, offsetof(Sealed, txt) + len);
	memcpy(s->stamp, backend_stamp(), STAMP_LEN);
	s->outer_role = GetOuterUserId();
	s->lxid = current_lxid();
	vault_record_write(rec, s->txt);
	return (struct varlena *) s;
}

static void
refuse_print(const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("sealed secret %s", why),
			 errhint("%s", hint)));
}

/* The value as text that may be printed here and now, or an error. */
static const char *
checked_text(FunctionCallInfo fcinfo, int *len)
{
	Sealed	   *s = (Sealed *) PG_GETARG_POINTER(0);
	static const char *const decoded = "vault.sealed";
	const char *again = "Read it with vault.read_secret() in the statement that needs it.";

	/*
	 * Of one that got into a table all the same. An error here would stop the
	 * slot for ever, and with it the removal of WAL.
	 */
	if (MyReplicationSlot != NULL && SlotIsLogical(MyReplicationSlot))
	{
		*len = strlen(decoded);
		return decoded;
	}
	/* The size first: nothing may be looked at that is not there. */
	if (!VARATT_IS_4B_U(s) || VARSIZE(s) <= offsetof(Sealed, txt))
		refuse_print("is malformed", again);
	if (IsParallelWorker())
		refuse_print("cannot be printed in a parallel worker",
					 "Select vault.read_secret() as a column of its own, or SET max_parallel_workers_per_gather = 0.");
	if (memcmp(s->stamp, backend_stamp(), STAMP_LEN) != 0)
		refuse_print("was read in another session", again);
	if (s->outer_role != GetOuterUserId())
		refuse_print("was read as another role", again);
	if (s->lxid != current_lxid())
		refuse_print("was read in another transaction", again);
	*len = VARSIZE(s) - offsetof(Sealed, txt);
	return s->txt;
}

Datum
vault_sealed_out(PG_FUNCTION_ARGS)
{
	int			len;
	const char *txt = checked_text(fcinfo, &len);

	PG_RETURN_CSTRING(pnstrdup(txt, len));
}

Datum
vault_sealed_send(PG_FUNCTION_ARGS)
{
	int			len;
	const char *txt = checked_text(fcinfo, &len);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, txt, len);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/*
 * Input always raises. It is met mostly in coalesce(read_secret(...), 'x'),
 * UNION ALL SELECT 'x' and CASE: the literal may be a secret, so nothing of the
 * statement is logged.
 */
static void
refuse_input(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("nothing can be converted to vault.sealed"),
			 errdetail("Only vault.read_secret() makes a value of this type."),
			 errhint("Select vault.read_secret() as a column of its own; for a secret that may be missing use missing_ok => true and put the default in the client."),
			 VAULT_HIDE));
}

Datum
vault_sealed_in(PG_FUNCTION_ARGS)
{
	refuse_input();
	PG_RETURN_NULL();
}

Datum
vault_sealed_recv(PG_FUNCTION_ARGS)
{
	refuse_input();
	PG_RETURN_NULL();
}

/* All casts to other types. */
Datum
vault_sealed_cast(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a sealed secret cannot be converted to another type"),
			 errdetail("The server holds ciphertext only; a node opens result columns of type vault.sealed."),
			 errhint("Select vault.read_secret() as a column of its own.")));
	PG_RETURN_NULL();
}

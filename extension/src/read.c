/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * read.c
 *		read_secret: two fetches by index, no executor.
 *
 * Rows are read with the caller's active snapshot; neither table privileges nor
 * RLS play a part, the right was checked before. What does not exist and what
 * may not be read give the same error, so that names cannot be probed.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(vault_read_secret);

void
vault_missing(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("secret \"%s\" does not exist or is not yours to use", name),
			 errhint("Check the name, the version, and with an administrator what vault.grant_access() gave your role.")));
}

static VaultBytes
text_bytes(Datum d)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(d);
	VaultBytes	b = {(const uint8 *) VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v)};

	return b;
}

static bool
is_word(Datum d, const char *word)
{
	VaultBytes	b = text_bytes(d);

	return b.len == (int) strlen(word) && memcmp(b.data, word, b.len) == 0;
}

/* The living secret of this name, under the active snapshot. */
bool
vault_fetch_secret(const char *name, VaultSecret *secret)
{
	Relation	rel = table_open(vault_relation("secrets"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;
	bool		found = false;
	Datum		d;

	ScanKeyInit(&key, Anum_secrets_name, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(name));
	scan = systable_beginscan(rel, vault_relation("secrets_name_key"), true,
							  GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		(void) heap_getattr(tuple, Anum_secrets_deleted_at, desc, &isnull);
		found = isnull;
	}
	if (found)
	{
		d = heap_getattr(tuple, Anum_secrets_id, desc, &isnull);
		memcpy(&secret->id, DatumGetUUIDP(d), sizeof(pg_uuid_t));
		d = heap_getattr(tuple, Anum_secrets_current_version, desc, &isnull);
		secret->current_version = DatumGetInt32(d);
		secret->automatic = is_word(heap_getattr(tuple, Anum_secrets_kind, desc, &isnull), "automatic");
		secret->userpass = is_word(heap_getattr(tuple, Anum_secrets_format, desc, &isnull), "userpass");
		d = heap_getattr(tuple, Anum_secrets_allowed_cidrs, desc, &isnull);
		secret->cidrs.data = NULL;
		secret->cidrs.len = 0;
		if (!isnull)
			secret->cidrs = vault_cidrs_encode(DatumGetArrayTypeP(d));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Past its grace period, by the server's clock at the statement's start. */
static bool
expired(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		d = heap_getattr(tuple, Anum_versions_expires_at, desc, &isnull);

	return !isnull && DatumGetTimestampTz(d) <= GetCurrentStatementStartTimestamp();
}

/*
 * Calls fn for each version of a secret that is current or in grace, newest
 * first; with version > 0 for that one at most. Of many versions what fn allocates
 * goes with each.
 */
void
vault_walk_versions(const pg_uuid_t *id, int32 version, VaultVersionFn fn, void *arg)
{
	Relation	rel = table_open(vault_relation("secret_versions"), AccessShareLock);
	Relation	index = index_open(vault_relation("secret_versions_pkey"), AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext each = NULL;
	bool		more = true;

	if (version == 0)
		each = AllocSetContextCreate(caller, "secret version", ALLOCSET_DEFAULT_SIZES);
	ScanKeyInit(&keys[0], Anum_versions_secret_id, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	ScanKeyInit(&keys[1], Anum_versions_version, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(version));
	scan = systable_beginscan_ordered(rel, index, GetActiveSnapshot(), version > 0 ? 2 : 1, keys);
	while (more && HeapTupleIsValid(tuple = systable_getnext_ordered(scan, BackwardScanDirection)))
	{
		CHECK_FOR_INTERRUPTS();
		if (expired(tuple, RelationGetDescr(rel)))
			continue;
		if (each != NULL)
			MemoryContextSwitchTo(each);
		more = fn(tuple, RelationGetDescr(rel), arg);
		MemoryContextSwitchTo(caller);
		if (each != NULL)
			MemoryContextReset(each);
	}
	systable_endscan_ordered(scan);
	if (each != NULL)
		MemoryContextDelete(each);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

/* Its fields point into the row or into memory of the current context. */
void
vault_record_from_row(HeapTuple tuple, TupleDesc desc, const char *name,
					  const VaultSecret *secret, VaultRecord *rec)
{
	bool		isnull;

	/* All of these columns are NOT NULL. */
	rec->vault = *vault_id();
	rec->secret = secret->id;
	rec->version = DatumGetInt32(heap_getattr(tuple, Anum_versions_version, desc, &isnull));
	rec->name.data = (const uint8 *) name;
	rec->name.len = strlen(name);
	rec->value_format = DatumGetInt16(heap_getattr(tuple, Anum_versions_value_format, desc, &isnull));
	rec->kms_key_id = text_bytes(heap_getattr(tuple, Anum_versions_kms_key_id, desc, &isnull));
	rec->wrapped_dek = text_bytes(heap_getattr(tuple, Anum_versions_wrapped_dek, desc, &isnull));
	rec->nonce = text_bytes(heap_getattr(tuple, Anum_versions_nonce, desc, &isnull));
	rec->ciphertext = text_bytes(heap_getattr(tuple, Anum_versions_ciphertext, desc, &isnull));
	rec->cidrs = secret->cidrs;
}

typedef struct ReadState
{
	const char *name;
	VaultSecret secret;
	struct varlena *sealed;
} ReadState;

static bool
seal_row(HeapTuple tuple, TupleDesc desc, void *arg)
{
	ReadState  *state = arg;
	VaultRecord rec;

	vault_record_from_row(tuple, desc, state->name, &state->secret, &rec);
	state->sealed = vault_seal_stamp(&rec);
	return false;
}

Datum
vault_read_secret(PG_FUNCTION_ARGS)
{
	text	   *t;
	ReadState	state = {0};
	bool		missing_ok = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	int32		version = 0;
	bool		allowed;

	/* No name, no secret: as in any outer join. */
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	t = PG_GETARG_TEXT_PP(0);
	if (vault_name_fault(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)) != NULL)
	{
		if (missing_ok)
			PG_RETURN_NULL();
		(void) vault_name_arg(fcinfo, 0);
	}
	state.name = text_to_cstring(t);

	allowed = vault_allowed(VAULT_READ, state.name);
	if (allowed && vault_fetch_secret(state.name, &state.secret))
	{
		version = PG_ARGISNULL(1) ? state.secret.current_version : PG_GETARG_INT32(1);
		if (version > 0)
			vault_walk_versions(&state.secret.id, version, seal_row, &state);
	}
	if (state.sealed != NULL)
		PG_RETURN_POINTER(state.sealed);
	vault_report_absent("read", allowed, state.name);
	if (!missing_ok)
		vault_missing(state.name);
	PG_RETURN_NULL();
}

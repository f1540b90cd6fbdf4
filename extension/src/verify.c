/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * verify.c
 *		verify_begin and verify_secret.
 *
 * The candidate never leaves the node. verify_begin hands the node the live
 * records and a challenge; the node compares, and puts "hvv1." + challenge + "."
 * + version (0: no match) in place of the candidate. A challenge is answered
 * once, in the backend that made it, for that name and role; once used it stays
 * used, also after a rollback.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(vault_verify_begin);
PG_FUNCTION_INFO_V1(vault_verify_secret);

#define CHALLENGE_LEN 16
#define MAX_CHALLENGES 16		/* calls in one statement */
/* What a node compares at once: 8 MiB of values, and what is sealed with them, as text. */
#define MAX_RECORDS ((8 * 1024 * 1024 + 64 * 1024) / 3 * 4)
#define PREFIX "hvv1."
#define PREFIX_LEN 5

typedef struct Challenge
{
	bool		open;
	Oid			user;
	uint8		bytes[CHALLENGE_LEN];
	char		name[VAULT_NAME_MAX + 1];
} Challenge;

/* A ring: the oldest makes room. */
static Challenge challenges[MAX_CHALLENGES];
static int	next_challenge = 0;

typedef struct Collected
{
	const char *name;
	VaultSecret secret;
	ArrayBuildState *texts;
	MemoryContext context;		/* of texts */
	size_t		size;			/* of texts */
} Collected;

static bool
collect(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Collected  *c = arg;
	VaultRecord rec;
	text	   *t;

	vault_record_from_row(tuple, desc, c->name, &c->secret, &rec);
	t = vault_record_text(&rec);
	c->size += VARSIZE_ANY_EXHDR(t);
	if (c->size > MAX_RECORDS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than 8 MiB of values of this secret are valid: too many to compare"),
				 errhint("A shorter grace_period ends the earlier ones sooner."),
				 VAULT_HIDE));
	c->texts = accumArrayResult(c->texts, PointerGetDatum(t), false, TEXTOID, c->context);
	return true;
}

static bytea *
new_challenge(const char *name)
{
	Challenge  *c = &challenges[next_challenge];
	bytea	   *out = palloc(VARHDRSZ + CHALLENGE_LEN);

	c->open = false;
	vault_random(c->bytes, CHALLENGE_LEN);
	c->user = GetUserId();
	strlcpy(c->name, name, sizeof(c->name));
	c->open = true;
	next_challenge = (next_challenge + 1) % MAX_CHALLENGES;

	SET_VARSIZE(out, VARHDRSZ + CHALLENGE_LEN);
	memcpy(VARDATA(out), c->bytes, CHALLENGE_LEN);
	return out;
}

Datum
vault_verify_begin(PG_FUNCTION_ARGS)
{
	Collected	c = {.context = CurrentMemoryContext};
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	bool		allowed;

	c.name = vault_name_arg(fcinfo, 0);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "verify_begin must return a row");
	allowed = vault_allowed(VAULT_VERIFY, c.name);
	if (allowed && vault_fetch_secret(c.name, &c.secret))
		vault_walk_versions(&c.secret.id, 0, collect, &c);
	if (c.texts == NULL)
	{
		vault_report_absent("verify", allowed, c.name);
		vault_missing(c.name);
	}
	vault_report_done("verify", c.name);

	values[0] = PointerGetDatum(new_challenge(c.name));
	values[1] = makeArrayResult(c.texts, CurrentMemoryContext);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Takes an answer apart; false if it is anything else. */
static bool
parse_answer(const char *s, int len, uint8 *challenge, int32 *version)
{
	int64		v = 0;

	if (len < PREFIX_LEN + 2 * CHALLENGE_LEN + 2 || memcmp(s, PREFIX, PREFIX_LEN) != 0)
		return false;
	for (int i = 0; i < CHALLENGE_LEN; i++)
	{
		int			hi = hex_value(s[PREFIX_LEN + 2 * i]);
		int			lo = hex_value(s[PREFIX_LEN + 2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		challenge[i] = (uint8) (hi << 4 | lo);
	}
	s += PREFIX_LEN + 2 * CHALLENGE_LEN;
	len -= PREFIX_LEN + 2 * CHALLENGE_LEN;
	if (*s != '.' || len > 11 || (s[1] == '0' && len > 2))
		return false;
	for (int i = 1; i < len; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (s[i] - '0');
	}
	if (v > PG_INT32_MAX)
		return false;
	*version = (int32) v;
	return true;
}

/* The open challenge with these bytes for this name and user, now used. */
static bool
use_challenge(const uint8 *bytes, const text *name)
{
	for (int i = 0; i < MAX_CHALLENGES; i++)
	{
		Challenge  *c = &challenges[i];

		if (!c->open || memcmp(c->bytes, bytes, CHALLENGE_LEN) != 0)
			continue;
		c->open = false;
		return c->user == GetUserId() &&
			strlen(c->name) == VARSIZE_ANY_EXHDR(name) &&
			memcmp(c->name, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == 0;
	}
	return false;
}

Datum
vault_verify_secret(PG_FUNCTION_ARGS)
{
	text	   *name;
	text	   *value;
	uint8		challenge[CHALLENGE_LEN];
	int32		version;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	name = PG_GETARG_TEXT_PP(0);
	value = PG_GETARG_TEXT_PP(1);

	if (!parse_answer(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), challenge, &version))
	{
		vault_report("verify", "failed", "unsealed", vault_name_or_empty(fcinfo, 0));
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the value to verify reached the server and was refused"),
				 errdetail("A hyperion-vault node compares values; they never travel to PostgreSQL."),
				 errhint("Connect to a node and write the value as a constant or parameter of the call itself."),
				 VAULT_HIDE));
	}
	/* A definer function would let its caller use the owner's right. */
	if (GetUserId() != GetOuterUserId() || InLocalUserIdChange())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("vault.verify_secret() cannot run in a SECURITY DEFINER function"),
				 errhint("Call it from the statement itself, as the role that has the verify right."),
				 VAULT_HIDE));
	if (!use_challenge(challenge, name))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the answer belongs to no open verification of this session"),
				 errhint("Each call of vault.verify_secret() must be written in a statement sent through a node, and run once."),
				 VAULT_HIDE));
	if (version == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(version);
}

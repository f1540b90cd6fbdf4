/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * name.c
 *		Rules for the names of secrets and for grant patterns.
 */
#include "vault.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(vault_valid_name);
PG_FUNCTION_INFO_V1(vault_valid_pattern);

/* Last segments that REST paths use as verbs. */
static const char *const verbs[] = {"rotate", "verify", "versions"};

/* What tokens begin with, and as much of what comes behind as must not be told. */
#define TOKEN_PREFIX "hvt_"
#define TOKEN_PREFIX_LEN 4
#define TOKEN_TOLD 16

static bool
name_byte(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("._/@+-", c) != NULL);
}

/* Does it hold a token of REST, or most of one? As HoldsToken() of proxy/vault. */
static bool
holds_token(const char *name, int len)
{
	for (int i = 0; i + TOKEN_PREFIX_LEN + TOKEN_TOLD <= len; i++)
	{
		int			end = i + TOKEN_PREFIX_LEN;

		if (memcmp(name + i, TOKEN_PREFIX, TOKEN_PREFIX_LEN) != 0)
			continue;
		while (end < len && strchr("./@+", name[end]) == NULL)
			end++;
		if (end - i - TOKEN_PREFIX_LEN >= TOKEN_TOLD)
			return true;
	}
	return false;
}

/* How a name is written. NULL, or the rule that it breaks; never quotes the name. */
static const char *
spelling_fault(const char *name, int len)
{
	int			start = 0;

	if (len < 1 || len > VAULT_NAME_MAX)
		return "a name has 1 to 255 bytes";
	for (int i = 0; i < len; i++)
		if (!name_byte(name[i]))
			return "a name has only the characters A-Z a-z 0-9 . _ / @ + -";
	for (int i = 0; i <= len; i++)
	{
		int			seg = i - start;

		if (i < len && name[i] != '/')
			continue;
		if (seg == 0)
			return "a name has no leading, trailing or double slash";
		if ((seg == 1 && name[start] == '.') || (seg == 2 && strncmp(name + start, "..", 2) == 0))
			return "a name has no segment \".\" or \"..\"";
		if (i == len)
			for (size_t v = 0; v < lengthof(verbs); v++)
				if (strlen(verbs[v]) == (size_t) seg && strncmp(name + start, verbs[v], seg) == 0)
					return "the last segment of a name is not rotate, verify or versions";
		start = i + 1;
	}
	return NULL;
}

/* The same, and that it is no token, which must not get into any log as a name. */
const char *
vault_name_fault(const char *name, int len)
{
	const char *fault = spelling_fault(name, len);

	if (fault == NULL && holds_token(name, len))
		fault = "a token of REST is no secret's name";
	return fault;
}

/* A pattern is an exact name, a prefix that ends in *, or * alone. */
const char *
vault_pattern_fault(const char *pattern, int len)
{
	if (len > 0 && pattern[len - 1] == '*')
	{
		if (len - 1 > VAULT_NAME_MAX)
			return "a prefix has at most 255 bytes";
		for (int i = 0; i < len - 1; i++)
			if (!name_byte(pattern[i]))
				return "a pattern is a name, a prefix of names followed by *, or * alone";
		return NULL;
	}
	return spelling_fault(pattern, len);
}

/* Argument argno as a valid name, else 22004 or 22023; never echoes it. */
char *
vault_name_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *t;
	const char *fault;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of a secret must not be NULL"),
				 errhint("Give the name of the secret as first argument."),
				 VAULT_HIDE));
	t = PG_GETARG_TEXT_PP(argno);
	fault = vault_name_fault(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	if (fault)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid name of a secret"),
				 errdetail("The rule broken: %s.", fault),
				 errhint("The name is the first argument, the value comes after it."),
				 VAULT_HIDE));
	return text_to_cstring(t);
}

/* The same where it is only to be told: nothing in place of what is no name. */
const char *
vault_name_or_empty(FunctionCallInfo fcinfo, int argno)
{
	text	   *t = PG_ARGISNULL(argno) ? NULL : PG_GETARG_TEXT_PP(argno);

	if (t == NULL || vault_name_fault(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)) != NULL)
		return "";
	return text_to_cstring(t);
}

/* For what is stored, which may be older than the rule about tokens. */
Datum
vault_valid_name(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(spelling_fault(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)) == NULL);
}

Datum
vault_valid_pattern(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(vault_pattern_fault(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)) == NULL);
}

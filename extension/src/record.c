/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * record.c
 *		The hv1 text form of a sealed version: "hv1." and, in base64url without
 *		padding, eleven fields, each with a 4 byte big-endian length in front.
 *		The server packs and unpacks it; it holds no key and opens nothing.
 *
 * There is one spelling only: what parses is what would be written.
 */
#include "vault.h"

#include <sys/socket.h>

#include "catalog/pg_type.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/inet.h"
#include "utils/lsyscache.h"

#define PREFIX "hv1."
#define PREFIX_LEN 4
#define FORMAT_1 0x01
#define FIELDS 11

static const char alphabet[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	if (c == '_')
		return 63;
	return -1;
}

/* Strict: no padding, no other byte, unused bits zero. -1 if malformed. */
static int
base64_decode(const char *src, int len, uint8 *dst)
{
	uint32		acc = 0;
	int			bits = 0;
	int			n = 0;

	if (len % 4 == 1)
		return -1;
	for (int i = 0; i < len; i++)
	{
		int			v = base64_value(src[i]);

		if (v < 0)
			return -1;
		acc = (acc << 6) | (uint32) v;
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			dst[n++] = (uint8) (acc >> bits);
			acc &= (1U << bits) - 1;
		}
	}
	return acc == 0 ? n : -1;
}

/* A base64 writer that takes its input piece by piece. */
typedef struct Encoder
{
	char	   *dst;
	uint32		acc;
	int			bits;
} Encoder;

static void
encode_byte(Encoder *e, uint8 byte)
{
	e->acc = (e->acc << 8) | byte;
	e->bits += 8;
	while (e->bits >= 6)
	{
		e->bits -= 6;
		*e->dst++ = alphabet[(e->acc >> e->bits) & 63];
	}
}

static void
encode(Encoder *e, const uint8 *src, int len)
{
	int			i = 0;

	/* Whole groups first: ciphertext is long. */
	for (; i < len && e->bits != 0; i++)
		encode_byte(e, src[i]);
	for (; i + 3 <= len; i += 3)
	{
		uint32		v = ((uint32) src[i] << 16) | ((uint32) src[i + 1] << 8) | src[i + 2];

		*e->dst++ = alphabet[v >> 18];
		*e->dst++ = alphabet[(v >> 12) & 63];
		*e->dst++ = alphabet[(v >> 6) & 63];
		*e->dst++ = alphabet[v & 63];
	}
	for (; i < len; i++)
		encode_byte(e, src[i]);
}

static void
encode_end(Encoder *e)
{
	if (e->bits > 0)
		*e->dst++ = alphabet[(e->acc << (6 - e->bits)) & 63];
}

static void
encode_field(Encoder *e, const void *data, int len)
{
	uint32		be = pg_hton32((uint32) len);

	encode(e, (const uint8 *) &be, sizeof(be));
	encode(e, data, len);
}

static int
raw_len(const VaultRecord *rec)
{
	return FIELDS * 4 + 1 + UUID_LEN + UUID_LEN + 4 + rec->name.len + 1 + rec->kms_key_id.len +
		rec->wrapped_dek.len + rec->nonce.len + rec->ciphertext.len + rec->cidrs.len;
}

/* Length of the text form, without a terminating zero. */
int
vault_record_text_len(const VaultRecord *rec)
{
	return PREFIX_LEN + (raw_len(rec) * 4 + 2) / 3;
}

/* Writes exactly vault_record_text_len() bytes. */
void
vault_record_write(const VaultRecord *rec, char *dst)
{
	Encoder		e = {dst + PREFIX_LEN, 0, 0};
	uint8		format = FORMAT_1;
	uint8		value_format = (uint8) rec->value_format;
	uint32		version = pg_hton32((uint32) rec->version);

	memcpy(dst, PREFIX, PREFIX_LEN);
	encode_field(&e, &format, 1);
	encode_field(&e, rec->vault.data, UUID_LEN);
	encode_field(&e, rec->secret.data, UUID_LEN);
	encode_field(&e, &version, 4);
	encode_field(&e, rec->name.data, rec->name.len);
	encode_field(&e, &value_format, 1);
	encode_field(&e, rec->kms_key_id.data, rec->kms_key_id.len);
	encode_field(&e, rec->wrapped_dek.data, rec->wrapped_dek.len);
	encode_field(&e, rec->nonce.data, rec->nonce.len);
	encode_field(&e, rec->ciphertext.data, rec->ciphertext.len);
	encode_field(&e, rec->cidrs.data, rec->cidrs.len);
	encode_end(&e);
	Assert(e.dst - dst == vault_record_text_len(rec));
}

text *
vault_record_text(const VaultRecord *rec)
{
	int			len = vault_record_text_len(rec);
	text	   *t = palloc(VARHDRSZ + len);

	SET_VARSIZE(t, VARHDRSZ + len);
	vault_record_write(rec, VARDATA(t));
	return t;
}

/* The next field of [*p, end); false if it is cut off or out of bounds. */
static bool
next_field(const uint8 **p, const uint8 *end, int min, int max, VaultBytes *out)
{
	uint32		be;
	uint32		len;

	if (end - *p < 4)
		return false;
	memcpy(&be, *p, 4);
	len = pg_ntoh32(be);
	*p += 4;
	if (len < (uint32) min || len > (uint32) max || len > (size_t) (end - *p))
		return false;
	out->data = *p;
	out->len = (int) len;
	*p += len;
	return true;
}

/* Key ids are stored as text, so they must be valid in any encoding. */
static bool
printable(const VaultBytes *b)
{
	for (int i = 0; i < b->len; i++)
		if (b->data[i] < 0x20 || b->data[i] > 0x7e)
			return false;
	return true;
}

/*
 * Parses what a put carries: its cidr field is empty, for that list belongs to
 * the secret. False if txt is anything but one well-formed record. The fields
 * point into memory of the current context.
 */
bool
vault_record_parse(const char *txt, int len, VaultRecord *rec)
{
	uint8	   *raw;
	const uint8 *p;
	const uint8 *end;
	int			n;
	uint32		be;
	VaultBytes	format,
				vault,
				secret,
				version,
				value_format;

	if (len < PREFIX_LEN || len > VAULT_TEXT_MAX || memcmp(txt, PREFIX, PREFIX_LEN) != 0)
		return false;
	raw = palloc((len - PREFIX_LEN) / 4 * 3 + 3);
	n = base64_decode(txt + PREFIX_LEN, len - PREFIX_LEN, raw);
	if (n < 0)
		return false;
	p = raw;
	end = raw + n;
	if (!next_field(&p, end, 1, 1, &format) ||
		!next_field(&p, end, UUID_LEN, UUID_LEN, &vault) ||
		!next_field(&p, end, UUID_LEN, UUID_LEN, &secret) ||
		!next_field(&p, end, 4, 4, &version) ||
		!next_field(&p, end, 1, VAULT_NAME_MAX, &rec->name) ||
		!next_field(&p, end, 1, 1, &value_format) ||
		!next_field(&p, end, 1, VAULT_KMS_KEY_MAX, &rec->kms_key_id) ||
		!next_field(&p, end, 1, VAULT_WRAPPED_MAX, &rec->wrapped_dek) ||
		!next_field(&p, end, VAULT_NONCE_LEN, VAULT_NONCE_LEN, &rec->nonce) ||
		!next_field(&p, end, VAULT_CIPHERTEXT_MIN, VAULT_CIPHERTEXT_MAX, &rec->ciphertext) ||
		!next_field(&p, end, 0, 0, &rec->cidrs) ||
		p != end)
		return false;

	memcpy(rec->vault.data, vault.data, UUID_LEN);
	memcpy(rec->secret.data, secret.data, UUID_LEN);
	memcpy(&be, version.data, 4);
	rec->version = (int32) pg_ntoh32(be);
	rec->value_format = value_format.data[0];
	return format.data[0] == FORMAT_1 &&
		rec->version >= 1 &&
		rec->value_format >= VAULT_VALUE_TEXT && rec->value_format <= VAULT_VALUE_USERPASS &&
		vault_name_fault((const char *) rec->name.data, rec->name.len) == NULL &&
		printable(&rec->kms_key_id);
}

/*
 * A secret's allowed_cidrs as the record carries them: per entry one byte 4 or
 * 6, one byte prefix length, 4 or 16 address bytes.
 */
VaultBytes
vault_cidrs_encode(ArrayType *cidrs)
{
	VaultBytes	out = {NULL, 0};
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	uint8	   *dst;

	deconstruct_array(cidrs, CIDROID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	/* Fail closed: an entry that cannot be told must not widen the list. */
	if (n > VAULT_CIDRS_MAX)
		elog(ERROR, "more than %d allowed_cidrs", VAULT_CIDRS_MAX);
	if (n == 0)
		return out;
	dst = palloc(n * 18);
	out.data = dst;
	for (int i = 0; i < n; i++)
	{
		inet	   *addr;

		if (nulls[i])
			elog(ERROR, "NULL in allowed_cidrs");
		addr = DatumGetInetPP(elems[i]);
		*dst++ = ip_family(addr) == PGSQL_AF_INET ? 4 : 6;
		*dst++ = ip_bits(addr);
		memcpy(dst, ip_addr(addr), ip_addrsize(addr));
		dst += ip_addrsize(addr);
	}
	out.len = (int) (dst - out.data);
	return out;
}

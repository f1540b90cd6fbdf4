/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vault.h
 *		What the parts of hyperion_vault share. One concern a file:
 *
 *		init.c		settings, library start
 *		catalog.c	where our tables are, whose they are, the vault's id
 *		name.c		rules for names and grant patterns
 *		record.c	hv1 text form of a sealed version
 *		sealed.c	type vault.sealed and its stamp
 *		ddl.c		event trigger and hook against stored vault.sealed
 *		grants.c	who may do what
 *		access.c	grant_access, revoke_access
 *		read.c		read_secret, fetching rows by index
 *		list.c		list_secrets, list_versions
 *		lock.c		the row lock on a name, becoming the owner
 *		wait.c		the bound of a wait for a name
 *		version.c	next_version, reservations
 *		hold.c		the timer over a held name
 *		put.c		put_secret, create_secret, rotate_secret
 *		update.c	update_secret, delete_secret, and the node's node_update, ...
 *		changed.c	notifications on vault_changed
 *		change.c	rows of vault.changes
 *		report.c	what the node is told of it
 *		verify.c	verify_begin, verify_secret
 *		login.c		login_verifier
 *		session.c	session_state
 *		client.c	client_addr
 *		replay.c	replayed
 *		node.c		node_read, node_candidates, node_next_version, node_write
 *		token.c		token_role, token_read
 *		audit.c		audit_store
 *		rotate.c	complete_rotation
 *		status.c	status, fail
 *		worker.c	tick, background workers
 *		upgrade.c	what the steps between versions need
 */
#ifndef VAULT_H
#define VAULT_H

#include "postgres.h"

#include "access/genam.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* A refusal that may carry a value: with errhidestmt alone a Bind parameter
 * would still reach the log through the context. */
#define VAULT_HIDE errhidestmt(true), errhidecontext(true)

/* PostgreSQL's own spelling of this changed in 18. */
#define VAULT_NORETURN __attribute__((noreturn))

/* ---- limits of the format (docs/ENVELOPE.md) ---- */
#define VAULT_NAME_MAX 255
#define VAULT_TEXT_MAX (720 * 1024) /* a whole hv1 text */
#define VAULT_KMS_KEY_MAX 2048
#define VAULT_WRAPPED_MAX 6144
#define VAULT_NONCE_LEN 24
#define VAULT_CIPHERTEXT_MIN (32 + 1 + 16)	/* commitment, value, tag */
#define VAULT_CIPHERTEXT_MAX (32 + 512 * 1024 + 16)
#define VAULT_CIDRS_MAX 64
#define VAULT_DESCRIPTION_MAX 4096

#define VAULT_VALUE_TEXT 1
#define VAULT_VALUE_BYTES 2
#define VAULT_VALUE_USERPASS 3

/* ---- init.c ---- */
typedef enum VaultProxyLogin
{
	VAULT_LOGIN_USERS,
	VAULT_LOGIN_ALL
} VaultProxyLogin;

extern bool vault_rotation_enabled;
extern int	vault_scan_interval_secs;
extern char *vault_database;
extern int	vault_lock_wait;
extern int	vault_lock_hold;
extern int	vault_proxy_login;
extern char *vault_client_addr_setting;
extern bool vault_node_session;
extern int	vault_audit_min_age;
extern bool vault_preloaded;

/* ---- catalog.c ---- */
extern Oid	vault_schema(void);
extern Oid	vault_relation(const char *name);
extern Oid	vault_owner(void);
extern Oid	vault_sealed_type(void);
extern const pg_uuid_t *vault_id(void);
extern void vault_watch(Oid relid);
extern uint64 vault_watch_generation(void);

/* ---- name.c ---- */
extern const char *vault_name_fault(const char *name, int len);
extern const char *vault_pattern_fault(const char *pattern, int len);
extern char *vault_name_arg(FunctionCallInfo fcinfo, int argno);
extern const char *vault_name_or_empty(FunctionCallInfo fcinfo, int argno);

/* ---- record.c ---- */
typedef struct VaultBytes
{
	const uint8 *data;
	int			len;
} VaultBytes;

typedef struct VaultRecord
{
	pg_uuid_t	vault;
	pg_uuid_t	secret;
	int32		version;
	VaultBytes	name;
	int			value_format;
	VaultBytes	kms_key_id;
	VaultBytes	wrapped_dek;
	VaultBytes	nonce;
	VaultBytes	ciphertext;
	VaultBytes	cidrs;			/* as encoded; empty: any address */
} VaultRecord;

extern bool vault_record_parse(const char *txt, int len, VaultRecord *rec);
extern int	vault_record_text_len(const VaultRecord *rec);
extern void vault_record_write(const VaultRecord *rec, char *dst);
extern text *vault_record_text(const VaultRecord *rec);
extern VaultBytes vault_cidrs_encode(ArrayType *cidrs);

/* ---- sealed.c ---- */
extern void vault_random(void *dst, size_t len);
extern struct varlena *vault_seal_stamp(const VaultRecord *rec);

/* ---- ddl.c ---- */
extern void vault_ddl_init(void);

/* ---- grants.c ---- */
#define VAULT_READ		0x01
#define VAULT_VERIFY	0x02
#define VAULT_LIST		0x04
#define VAULT_CREATE	0x08
#define VAULT_UPDATE	0x10
#define VAULT_ROTATE	0x20
#define VAULT_DELETE	0x40
#define VAULT_WRITE		(VAULT_CREATE | VAULT_UPDATE)
#define VAULT_ALL		0x7f

extern bool vault_allowed(uint32 action, const char *name);
extern void vault_require(uint32 action, const char *name);
extern bool vault_action_parse(const char *s, int len, uint32 *mask);
extern uint32 vault_actions_from_array(ArrayType *a);
extern ArrayType *vault_actions_to_array(uint32 mask);

/* ---- read.c ---- */

/* Column numbers: a later script may add columns at the end, never reuse one. */
enum
{
	Anum_secrets_id = 1,
	Anum_secrets_name,
	Anum_secrets_kind,
	Anum_secrets_format,
	Anum_secrets_description,
	Anum_secrets_rotation_interval,
	Anum_secrets_grace_period,
	Anum_secrets_current_version,
	Anum_secrets_next_rotation_at,
	Anum_secrets_allowed_cidrs,
	Anum_secrets_deleted_at,
	Anum_secrets_created_at,
	Anum_secrets_updated_at
};

enum
{
	Anum_versions_secret_id = 1,
	Anum_versions_version,
	Anum_versions_envelope_format,
	Anum_versions_value_format,
	Anum_versions_kms_key_id,
	Anum_versions_wrapped_dek,
	Anum_versions_nonce,
	Anum_versions_ciphertext,
	Anum_versions_stage,
	Anum_versions_created_at,
	Anum_versions_expires_at
};

typedef struct VaultSecret
{
	pg_uuid_t	id;
	bool		automatic;
	bool		userpass;
	int32		current_version;
	VaultBytes	cidrs;
} VaultSecret;

/* Called for each live version; false ends the walk. */
typedef bool (*VaultVersionFn) (HeapTuple tuple, TupleDesc desc, void *arg);

extern bool vault_fetch_secret(const char *name, VaultSecret *secret);
extern void vault_walk_versions(const pg_uuid_t *id, int32 version,
								VaultVersionFn fn, void *arg);
extern void vault_record_from_row(HeapTuple tuple, TupleDesc desc, const char *name,
								  const VaultSecret *secret, VaultRecord *rec);
extern VAULT_NORETURN void vault_missing(const char *name);

/* ---- list.c ---- */

/* The rows of a set-returning function. */
typedef struct VaultRows
{
	Tuplestorestate *store;
	TupleDesc	desc;
} VaultRows;

extern VaultRows vault_begin_rows(FunctionCallInfo fcinfo);

/* ---- lock.c ---- */
typedef struct VaultCaller
{
	Oid			user;
	int			sec_context;
} VaultCaller;

typedef struct VaultRow
{
	pg_uuid_t	id;
	bool		live;
	bool		automatic;
	bool		userpass;
	int32		current_version;
} VaultRow;

extern void vault_become_owner(VaultCaller *caller);
extern void vault_become_caller(const VaultCaller *caller);
extern void vault_spi_begin(VaultCaller *caller);
extern void vault_spi_end(const VaultCaller *caller);
extern int	vault_spi_run(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types,
						  Datum *values, const char *nulls, int expect);
extern bool vault_lock_name(const char *name, bool create, VaultRow *row);

/* ---- version.c ---- */
typedef enum VaultAction
{
	VAULT_ACTION_PUT,
	VAULT_ACTION_CREATE,
	VAULT_ACTION_ROTATE
} VaultAction;

typedef enum VaultClaim
{
	VAULT_CLAIM_OK,
	VAULT_CLAIM_USED,
	VAULT_CLAIM_NONE
} VaultClaim;

extern void vault_require_first(VaultAction action, const char *name);
extern void vault_check_action(VaultAction action, const char *name, const VaultRow *row);
extern void vault_check_state(VaultAction action, const char *name, const VaultRow *row);
extern int32 vault_reserve(VaultAction action, const char *name, const VaultRow *row, int n,
						   pg_uuid_t *id);
extern bool vault_reserved(const char *name);
extern VaultClaim vault_claim(VaultAction action, const char *name, const VaultRow *row,
							  const VaultRecord *rec, int64 *change);

/* ---- changed.c ---- */
extern void vault_note_changed(const pg_uuid_t *secret, int32 version);

/* ---- change.c ---- */
typedef struct VaultChange
{
	const char *action;
	const char *subject;		/* a secret's name, or whatever else it is of */
	const pg_uuid_t *secret;	/* NULL: of none */
	int32		version;		/* 0: none */
	int64		reserved;		/* vault_reserve_change(); 0: a new number */
	Oid			role;			/* in whose right it is done */
} VaultChange;

extern int64 vault_reserve_change(void);
extern void vault_log_change(const VaultChange *change);

/* ---- report.c ---- */
extern void vault_tell_role(void);
extern void vault_report_change(const char *action, int32 version, int64 change,
								const char *subject);
extern void vault_report_done(const char *action, const char *subject);
extern void vault_report_empty(const char *action, const char *subject);
extern void vault_report(const char *action, const char *outcome, const char *reason,
						 const char *subject);
extern void vault_report_absent(const char *action, bool allowed, const char *name);

/* ---- put.c ---- */
extern void vault_check_description(const text *description);
extern bool vault_interval_in_bounds(const Interval *value, const char *min);

#define VAULT_INTERVAL(s) \
	DirectFunctionCall3(interval_in, CStringGetDatum(s), \
						ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))

/*
 * When a rotation is due that an interval from now asks for: never later, but up
 * to a tenth of it and at most an hour sooner, so that secrets that were made
 * together do not rotate together.
 */
#define VAULT_NEXT_ROTATION(i) \
	"pg_catalog.now() OPERATOR(pg_catalog.+) " i " OPERATOR(pg_catalog.-)" \
	" pg_catalog.make_interval(secs => pg_catalog.random() OPERATOR(pg_catalog.*)" \
	" LEAST(pg_catalog.date_part('epoch', " i ") OPERATOR(pg_catalog./) 10, 3600))"

/* What is said about a new secret; NULL: not said. */
typedef struct VaultTraits
{
	bool		node;			/* a node writes for REST: it has checked the right */
	bool		automatic;
	Interval   *rotation_interval;
	Interval   *grace_period;
	text	   *description;
} VaultTraits;

extern void vault_record_arg(FunctionCallInfo fcinfo, int argno, VaultRecord *rec,
							 const char *action);
extern bool vault_kind_arg(FunctionCallInfo fcinfo, int argno);
extern int32 vault_store(VaultAction action, const char *name, const VaultRecord *rec,
						 const VaultTraits *traits);

/* ---- node.c ---- */
typedef struct VaultReading
{
	Datum		record;
	Datum		version;
	Datum		created_at;
	Datum		kind;
	Datum		format;
} VaultReading;

extern bool vault_read_for_node(FunctionCallInfo fcinfo, const char *name, int argno, VaultReading *one);

/* ---- hold.c ---- */
extern void vault_hold_arm(void);
extern void vault_hold_disarm(void);

/* ---- wait.c ---- */
extern void vault_wait_begin(ErrorContextCallback *context);
extern void vault_wait_end(void);
extern void vault_wait_abandon(void);

/* ---- login.c ---- */
extern void vault_login_init(void);

/* ---- worker.c ---- */
extern void vault_worker_init(void);

#endif							/* VAULT_H */

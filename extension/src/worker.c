/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * worker.c
 *		Housekeeping: tick(), and under shared_preload_libraries the launcher
 *		that runs it on the primary.
 *
 * The launcher has no database, for a permanent connection would block DROP
 * DATABASE. Per interval it runs a short-lived worker in hyperion_vault.database
 * if the extension is there. Neither runs on a standby; promotion starts them.
 */
#include "vault.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(vault_tick);

PGDLLEXPORT void hyperion_vault_launcher_main(Datum arg);
PGDLLEXPORT void hyperion_vault_tick_main(Datum arg);

#define LAUNCHER_RESTART_SECS 10
/* The work skips locked rows; this is for a locked table. */
#define TICK_LOCK_TIMEOUT "10s"

static int64
run_once(const char *sql, int expect)
{
	if (SPI_execute(sql, false, 0) != expect)
		elog(ERROR, "unexpected result of a statement");
	return (int64) SPI_processed;
}

/*
 * One round of housekeeping. The row of vault.meta is the lock, so one session
 * at a time does the work; an advisory lock could be held by any role.
 */
Datum
vault_tick(PG_FUNCTION_ARGS)
{
	VaultCaller caller;

	PreventCommandIfReadOnly("vault.tick()");
	vault_spi_begin(&caller);
	if (run_once("SELECT 1 FROM vault.meta FOR UPDATE SKIP LOCKED", SPI_OK_SELECT) == 1)
	{
		if (vault_rotation_enabled)
			run_once("SELECT vault.enqueue_due_rotations()", SPI_OK_SELECT);
		run_once("SELECT vault.expire_grace_versions()", SPI_OK_SELECT);
		/* Names that were reserved and never put. */
		run_once("DELETE FROM vault.secrets WHERE id OPERATOR(pg_catalog.=) ANY"
				 " (SELECT s.id FROM vault.secrets s"
				 " WHERE s.current_version OPERATOR(pg_catalog.=) 0"
				 " AND s.deleted_at OPERATOR(pg_catalog.<) (pg_catalog.now()"
				 " OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval)"
				 " FOR UPDATE SKIP LOCKED)", SPI_OK_DELETE);
		run_once("DELETE FROM vault.rotation_jobs WHERE id OPERATOR(pg_catalog.=) ANY"
				 " (SELECT j.id FROM vault.rotation_jobs j"
				 " WHERE j.completed_at OPERATOR(pg_catalog.<) (pg_catalog.now()"
				 " OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval)"
				 " FOR UPDATE SKIP LOCKED)", SPI_OK_DELETE);
		run_once("UPDATE vault.meta SET last_tick_at = pg_catalog.now()", SPI_OK_UPDATE);
	}
	vault_spi_end(&caller);
	PG_RETURN_VOID();
}

void
vault_worker_init(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART_SECS;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "hyperion_vault");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "hyperion_vault_launcher_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "hyperion_vault launcher");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "hyperion_vault launcher");
	RegisterBackgroundWorker(&worker);
}

/* OID of hyperion_vault.database, or InvalidOid. */
static Oid
find_database(void)
{
	Oid			found = InvalidOid;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);

		if (db->datallowconn && strcmp(NameStr(db->datname), vault_database) == 0)
			found = db->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return found;
}

/* Runs one tick and waits for its end. No free worker slot: next time. */
static void
run_tick_worker(Oid database)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "hyperion_vault");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "hyperion_vault_tick_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "hyperion_vault tick");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "hyperion_vault tick");
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		ereport(LOG,
				(errmsg("hyperion_vault: no free background worker slot, housekeeping is late"),
				 errhint("Raise max_worker_processes.")));
		return;
	}
	(void) WaitForBackgroundWorkerShutdown(handle);
	pfree(handle);
}

void
hyperion_vault_launcher_main(Datum arg)
{
	MemoryContext loop;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	loop = AllocSetContextCreate(TopMemoryContext, "hyperion_vault launcher",
								 ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		TimestampTz due;
		Oid			database;

		MemoryContextSwitchTo(loop);
		database = find_database();
		MemoryContextSwitchTo(loop);
		if (OidIsValid(database))
			run_tick_worker(database);
		MemoryContextReset(loop);

		due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										  (int64) vault_scan_interval_secs * 1000);
		for (;;)
		{
			long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due);

			CHECK_FOR_INTERRUPTS();
			if (ConfigReloadPending)
			{
				ConfigReloadPending = false;
				ProcessConfigFile(PGC_SIGHUP);
				break;			/* the interval or the database may be new */
			}
			if (left <= 0)
				break;
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 left, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
		}
	}
}

/* Owner of the extension whose member vault.tick() is, or InvalidOid. */
static Oid
extension_owner(void)
{
	bool		isnull;

	if (SPI_execute("SELECT e.extowner FROM pg_catalog.pg_extension e"
					" JOIN pg_catalog.pg_depend d"
					" ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass"
					" AND d.refobjid OPERATOR(pg_catalog.=) e.oid"
					" AND d.deptype OPERATOR(pg_catalog.=) 'e'"
					" AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
					" AND d.objid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure('vault.tick()')::pg_catalog.oid"
					" WHERE e.extname OPERATOR(pg_catalog.=) 'hyperion_vault'",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_extension");
	if (SPI_processed != 1)
		return InvalidOid;
	return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * One tick. The owner is unknown until connected, and may be a role that cannot
 * log in: connect as the bootstrap superuser, then become the owner.
 */
void
hyperion_vault_tick_main(Datum arg)
{
	Oid			owner;
	Oid			user;
	int			sec_context;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", TICK_LOCK_TIMEOUT, PGC_USERSET, PGC_S_OVERRIDE);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "hyperion_vault tick");
	owner = extension_owner();
	if (OidIsValid(owner))
	{
		GetUserIdAndSecContext(&user, &sec_context);
		SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
		run_once("SELECT vault.tick()", SPI_OK_SELECT);
		SetUserIdAndSecContext(user, sec_context);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	proc_exit(0);
}

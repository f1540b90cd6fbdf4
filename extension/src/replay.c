/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * replay.c
 *		replayed: how far this server's WAL goes that its sessions see, and on
 *		which timeline.
 */
#include "vault.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#if PG_VERSION_NUM >= 150000
#include "access/xlogrecovery.h"
#endif
#include "funcapi.h"
#include "utils/pg_lsn.h"

PG_FUNCTION_INFO_V1(vault_replayed);

/*
 * Position and timeline are of one moment. The control file, where SQL finds the
 * timeline of a standby, follows a promotion only with the next restartpoint.
 */
Datum
vault_replayed(PG_FUNCTION_ARGS)
{
	XLogRecPtr	lsn;
	TimeLineID	timeline;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "replayed must return a row");
	if (RecoveryInProgress())
		lsn = GetXLogReplayRecPtr(&timeline);
	else
	{
		lsn = GetXLogInsertRecPtr();
#if PG_VERSION_NUM >= 150000
		timeline = GetWALInsertionTimeLine();
#else
		timeline = ThisTimeLineID;	/* set by the question above */
#endif
	}
	values[0] = LSNGetDatum(lsn);
	values[1] = Int32GetDatum((int32) timeline);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * upgrade.c
 *		What the steps between versions need; a step makes it, uses it and drops
 *		it again.
 */
#include "vault.h"

#include "commands/extension.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(vault_run_outside_script);

/*
 * Runs a command as if it were given after the script. A GRANT of a script is
 * taken for the extension's own: a dump would leave it out, and CREATE EXTENSION
 * in the restored database would not know of it. After an error the server
 * itself ends the script.
 */
Datum
vault_run_outside_script(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!creating_extension)
		elog(ERROR, "not in the script of an extension");
	creating_extension = false;
	SPI_connect();
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not run a command of the script");
	SPI_finish();
	creating_extension = true;
	PG_RETURN_VOID();
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * client.c
 *		client_addr: the address of the client behind the node.
 */
#include "vault.h"

#include <sys/socket.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"

PG_FUNCTION_INFO_V1(vault_client_addr);

/* One address, not a network; inet_in would raise for what is none. */
static bool
is_address(const char *s)
{
	unsigned char addr[16];

	if (strchr(s, ':') != NULL)
		return pg_inet_net_pton(PGSQL_AF_INET6, s, addr, -1) == 128;
	return pg_inet_net_pton(PGSQL_AF_INET, s, addr, -1) == 32;
}

/*
 * What the connection was opened with. The setting is PGC_BACKEND: one that was
 * SET before the library came has been put back when it did, and that is before
 * this function can run. But anybody who opens a connection may send it, so
 * this is a node's word only where nobody else can connect.
 */
Datum
vault_client_addr(PG_FUNCTION_ARGS)
{
	if (!is_address(vault_client_addr_setting))
		PG_RETURN_NULL();
	return DirectFunctionCall1(inet_in, CStringGetDatum(vault_client_addr_setting));
}

-- What the catalogue must say of us.

-- Every table: owner only, RLS enabled and forced, dumped, no foreign key.
SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS rls,
	c.oid = ANY (e.extconfig) AS dumped,
	NOT EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner) AS owner_only
	FROM pg_class c, pg_extension e
	WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'S', 'v') AND e.extname = 'hyperion_vault'
	ORDER BY c.relkind, c.relname;
SELECT count(*) FROM pg_constraint WHERE connamespace = 'vault'::regnamespace AND contype = 'f';
SELECT c.relname, t.tgname, t.tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'vault'::regnamespace ORDER BY 1;

-- Every SQL and plpgsql function has a search_path.
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'vault'::regnamespace AND l.lanname <> 'c'
		AND NOT coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false);
-- Nothing outside our schema, everything in it a member, all of one owner.
SELECT d.classid::regclass, pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
	JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'hyperion_vault' AND d.deptype = 'e'
		AND pg_describe_object(d.classid, d.objid, 0) !~ '(vault\.|schema vault$)' ORDER BY 2;
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'vault'::regnamespace
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e');
SELECT extnamespace::regnamespace, extrelocatable FROM pg_extension WHERE extname = 'hyperion_vault';

-- Who may run what.
SELECT left(p.oid::regprocedure::text, 75) AS function, p.prosecdef, p.provolatile, p.proparallel,
	has_function_privilege('regress_hv_app', p.oid, 'EXECUTE') AS anybody
	FROM pg_proc p WHERE p.pronamespace = 'vault'::regnamespace ORDER BY p.oid::regprocedure::text;
-- Who watches the server may look at one thing more than anybody.
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'vault'::regnamespace
	AND has_function_privilege('pg_monitor', p.oid, 'EXECUTE') AND NOT has_function_privilege('regress_hv_app', p.oid, 'EXECUTE');
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'v')
	AND has_table_privilege('pg_monitor', c.oid, 'SELECT');
SELECT has_schema_privilege('regress_hv_app', 'vault', 'USAGE') AS usage,
	has_schema_privilege('regress_hv_app', 'vault', 'CREATE') AS make;
-- No column of others' holds our rows: it would keep an upgrade from changing the table.
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'v')
	AND has_type_privilege('regress_hv_app', c.reltype, 'USAGE');
SET ROLE regress_hv_app;
CREATE TEMP TABLE pin (r vault.audit_log[]);
CREATE TEMP TABLE pin AS SELECT NULL::vault.effective_access AS r;
RESET ROLE;

-- Nobody adds to the schema, so no overload can catch a call.
SET ROLE regress_hv_app;
CREATE FUNCTION vault.put_secret(text, varchar) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE vault.mine (i int);
RESET ROLE;

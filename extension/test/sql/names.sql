-- Rules for names and grant patterns.
SELECT left(n, 20) AS n, length(n), vault.valid_name(n) FROM unnest(ARRAY['a', 'A-Z.a_z/0@9+x', repeat('x', 255), repeat('x', 256), '',
	'/a', 'a/', 'a//b', '.', '..', 'a/./b', 'a/../b', '...', 'a/..b', 'a b', 'a*', 'a''b', 'ä', 'a:b',
	'rotate', 'a/rotate', 'a/verify', 'versions', 'rotate/a', 'rotated']) n;
SELECT left(n, 20) AS n, length(n), vault.valid_pattern(n) FROM unnest(ARRAY['*', 'a*', 'a/*', 'a/b', '/*', '', 'a**', '*a', 'a b*',
	repeat('x', 255) || '*', repeat('x', 256) || '*', 'a/']) n;

-- The rule is named, the argument never: it may be a value in the wrong place.
SELECT vault.next_version('not a name', 1, 'put');
SELECT vault.read_secret('not a name');
SELECT vault.read_secret('not a name', missing_ok => true) IS NULL AS missing;
SELECT vault.read_secret(NULL) IS NULL AS no_name;
SELECT vault.next_version(NULL, 1, 'put');

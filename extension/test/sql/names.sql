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

-- A token of REST is no name, whatever stands around it, and is not logged as one.
SELECT vault.read_secret('hvt_hunter2hunter2ab');
SELECT vault.delete_secret('a/hvt_hunter2hunter2-b/c');
SELECT vault.next_version('hvt_x/hvt_hvt_hunter2hunter2', 1, 'put');
SELECT vault.read_secret('hvt_hunter2hunter2ab', missing_ok => true) IS NULL AS missing;
SELECT t.try(format('SELECT vault.read_secret(%L)', n)) FROM unnest(ARRAY['hvt_fifteenletters0', 'hvt_fifteenletters0/x', 'hvt.a_name_of_one_segment']) n;
-- One that was stored before that was a rule stays where it is.
SELECT vault.valid_name('hvt_hunter2hunter2ab') AS stays;

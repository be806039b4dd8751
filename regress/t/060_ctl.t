# clav_ctl: init, start, status, reload, stop; and the installed tree.
use strict;
use warnings;
use File::Temp qw(tempdir);
use Test::More;
use Claviger::Server;

my $dir = tempdir('ctl-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $data = "$dir/data";
my $port = Claviger::Server::free_port();
my $ctl = "$Claviger::Server::BINDIR/clav_ctl";

sub ctl
{
	my ($status, $out) = Claviger::Server->run($ctl, @_);
	return ($status, $out);
}

sub is_ctl
{
	my ($args, $want_status, $like) = @_;
	my ($status, $out) = ctl(@$args);
	like($out, $like, "clav_ctl @$args");
	is($status, $want_status, "  exit status $want_status");
	return $out;
}

sub stop_leftovers
{
	ctl('stop', '-D', $data, '-m', 'immediate') if $data;
	return;
}
END { my $status = $?; stop_leftovers(); $? = $status; }

is_ctl(['status', '-D', $data], 3, qr/no server runs/);
is_ctl(['stop', '-D', $data], 3, qr/no server runs/);
is_ctl(['frobnicate', '-D', $data], 2, qr/unknown command "frobnicate"/);
is_ctl(['start'], 2, qr/no data directory/);
is_ctl(['start', '-D', $data, 'x'], 2, qr/behind "--"/);

is_ctl(['init', '-D', $data, '--tls'], 0, qr/data directory .* is ready/);
ok(-f "$data/claviger.conf", 'a settings file is there');
ok(-f "$data/tls/$_", "tls/$_ is there") for qw(ca.crt ca.key server.crt server.key root.crt root.key);
is((stat "$data/tls/ca.key")[2] & 0777, 0600, 'keys are for the owner only');
is((stat $data)[2] & 0777, 0700, 'and so is the directory');
isnt((ctl('init', '-D', $data, '--tls'))[0], 0, 'init --tls again does not overwrite the CA');

my $url = "https://127.0.0.1:$port";
is_ctl(['start', '-D', $data, '-l', "$dir/log", '--', '--listen-client-urls', $url, '--advertise-client-urls', $url],
	0, qr/server started \(process \d+\), listening on https:\/\/127\.0\.0\.1:$port/);
is_ctl(['start', '-D', $data], 1, qr/already runs/);
is_ctl(['status', '-D', $data], 0, qr/ready, listening on https:/);

sub etcdctl
{
	my ($status, $out) = Claviger::Server->run('etcdctl', "--endpoints=$url", '--cacert', "$data/tls/ca.crt", '--cert',
		"$data/tls/root.crt", '--key', "$data/tls/root.key", Claviger::Server::patience(), @_);
	$out =~ s/^\{"level":.*\n//mg;
	return $out;
}
is(etcdctl(qw(user add root --no-password)), "User root created\n", 'the certificates work');
is(etcdctl(qw(auth enable)), "Authentication Enabled\n", 'and CN=root is the administrator');
is(etcdctl(qw(put a b)), "OK\n", 'who may write');

# reload: a good change takes effect, a mistake changes nothing
open(my $conf, '>>', "$data/claviger.conf") or die;
print $conf "log_level = \"debug\";\n";
close $conf;
is_ctl(['reload', '-D', $data], 0, qr/told to reload/);
sub log_has
{
	my $re = shift;
	return Claviger::Server::wait_until(
		sub { open(my $f, '<', "$dir/log") or return 0; local $/; return (<$f> // '') =~ $re });
}
ok(log_has(qr/settings reloaded/), 'the log says so');
open($conf, '>>', "$data/claviger.conf") or die;
print $conf "max_txn_ops = \"many\";\n";
close $conf;
is_ctl(['reload', '-D', $data], 0, qr/told to reload/);
ok(log_has(qr/settings not reloaded: .*claviger\.conf:\d+: .*max_txn_ops/), 'a mistake is named with file and line');
is(etcdctl(qw(get a)), "a\nb\n", 'and the server goes on');

# a certificate that is broken at reload leaves the old one in force
rename("$data/tls/server.crt", "$data/tls/kept.crt");
open($conf, '>', "$data/tls/server.crt") or die;
print $conf "garbage\n";
close $conf;
system('sed', '-i', '/max_txn_ops = "many"/d', "$data/claviger.conf");
is_ctl(['reload', '-D', $data], 0, qr/told to reload/);
ok(log_has(qr/not reloaded: .*server\.crt/), 'a broken certificate is named');
is(etcdctl(qw(get a)), "a\nb\n", 'and new connections get the old one');
rename("$data/tls/kept.crt", "$data/tls/server.crt");

is_ctl(['stop', '-D', $data, '-m', 'gently'], 2, qr/unknown mode/);
is_ctl(['stop', '-D', $data], 0, qr/server stopped/);
is_ctl(['status', '-D', $data], 3, qr/no server runs/);

# a start that fails says why
is_ctl(['start', '-D', $data, '-l', "$dir/log2", '--', '--max-txn-ops=none'], 1, qr/max.txn.ops/);

# make install gives a tree that works
SKIP: {
	skip 'tests run against an installed tree', 6 if $ENV{CLAVIGER_BINDIR};
	my $prefix = "$dir/installed";
	my ($status, $out) = Claviger::Server->run('make', '-s', '-C', $Claviger::Server::TOP, 'install', "prefix=$prefix",
		$Claviger::Server::BUILDDIR =~ /build-(\w+)$/ ? "FLAVOUR=$1" : ());
	is($status, 0, 'make install') or diag $out;
	ok(-x "$prefix/bin/$_", "bin/$_ is there") for qw(claviger clav_ctl clav_bench);
	($status, $out) = Claviger::Server->run("$prefix/bin/claviger", '--version');
	like($out, qr/^claviger \d+\.\d+\.\d+\n/, 'and runs');
	($status, $out) = Claviger::Server->run('grep', '-c', 'CLAVIGER_INJECT names', "$prefix/bin/claviger");
	is($status, $Claviger::Server::SANITIZER ? 0 : 1, 'without injection points, but for a flavour asked for by name');
}
done_testing();

# T2 of the mission: certificates as identity.
use strict;
use warnings;
use Test::More;
use Claviger::Certs;
use Claviger::Server;

my $ca = Claviger::Certs->new;
my $other = Claviger::Certs->new('another CA');
$ca->issue('server', cn => 'server');
$ca->issue($_) for qw(root alice bob revoked);
$ca->issue('nobody', cn => '');
$ca->issue('stranger');
$ca->issue('late', cn => 'alice', expired => 1);
$other->issue('foreign', cn => 'alice');
$ca->revoke('revoked');

my $server = Claviger::Server->new(
	tls  => 1,
	args => [
		'--cert-file', $ca->file('server.crt'), '--key-file', $ca->file('server.key'),
		'--trusted-ca-file', $ca->ca, '--client-cert-auth', '--client-crl-file', $ca->crl,
	])->start;

sub ctl
{
	my ($name, @args) = @_;
	my $from = $name eq 'foreign' ? $other : $ca;
	return $server->etcdctl('--cacert', $ca->ca, '--cert', $from->file("$name.crt"),
		'--key', $from->file("$name.key"), '--dial-timeout=2s', '--command-timeout=3s', @args);
}

sub is_ctl
{
	my ($name, $args, $want_status, $want) = @_;
	my ($status, $got) = ctl($name, split ' ', $args);
	is($got, $want, "$name: $args");
	is($status, $want_status, "  exit status $want_status");
	return;
}

is_ctl('root', 'user add root:root', 0, "User root created\n");
is_ctl('root', 'user add alice --no-password', 0, "User alice created\n");
is_ctl('root', 'user add bob:bob', 0, "User bob created\n");
is_ctl('root', 'auth enable', 0, "Authentication Enabled\n");
is_ctl('root', 'role add r', 0, "Role r created\n");
is_ctl('root', 'role grant-permission r readwrite hello', 0, "Role r updated\n");
is_ctl('root', 'user grant-role alice r', 0, "Role r is granted to user alice\n");

# the CN is the user, no --user needed
is_ctl('alice', 'put hello world', 0, "OK\n");
is_ctl('alice', 'get hello', 0, "hello\nworld\n");
is_ctl('alice', 'put hey hey', 1, "Error: etcdserver: permission denied\n");

# a token's user counts, not the certificate's; a bad login never falls back
is_ctl('alice', 'put hello x --user bob:bob', 1, "Error: etcdserver: permission denied\n");
is_ctl('bob', 'put hello x --user alice:alice', 2,
	"Error: etcdserver: authentication failed, invalid user ID or password\n");
is_ctl('bob', 'put hello rooted --user root:root', 0, "OK\n");

# an empty or unknown CN is nobody
is_ctl('nobody', 'get hello', 1, "Error: etcdserver: user name is empty\n");
is_ctl('stranger', 'get hello', 1, "Error: etcdserver: user name is empty\n");
is_ctl('stranger', 'member list', 1, "Error: etcdserver: user name is empty\n");

# refused in the handshake
for my $name (qw(foreign late revoked))
{
	my ($status, $out) = ctl($name, 'get', 'hello');
	isnt($status, 0, "$name is refused");
	unlike($out, qr/world|rooted/, '  and sees nothing');
}
my ($status) = $server->etcdctl('--cacert', $ca->ca, '--dial-timeout=2s', '--command-timeout=3s', 'get', 'hello');
isnt($status, 0, 'no certificate is refused');
my $log = $server->log_text;
like($log, qr/TLS handshake with 127\.0\.0\.1:\d+ failed: .*$_/i, "the log says: $_")
  for 'self.signed|unable to get (local )?issuer', 'expired', 'revoked', 'did not return a certificate';

# plain HTTP/2 on the TLS port gets nothing
($status) = $server->run('etcdctl', '--endpoints=http://' . $server->endpoint, '--dial-timeout=2s',
	'--command-timeout=3s', 'get', 'hello');
isnt($status, 0, 'plain text on the TLS port is refused');

is($server->stop, 0, 'stops in order');
done_testing();

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
		@Claviger::Server::CHEAP_LOGINS,
	])->start;

sub ctl
{
	my ($name, @args) = @_;
	my $from = $name eq 'foreign' ? $other : $ca;
	return $server->etcdctl('--cacert', $ca->ca, '--cert', $from->file("$name.crt"),
		'--key', $from->file("$name.key"), @args);
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

# refused in the handshake: etcdctl tries again until its time is over, which
# must be enough for one handshake
my @short = ('--dial-timeout=2s', '--command-timeout=3s');
sub is_refused
{
	my ($name, $reason, $try) = @_;
	my $re = qr/TLS handshake with 127\.0\.0\.1:\d+ failed: .*(?:$reason)/i;
	my ($status, $out);
	for (1 .. 10)
	{
		($status, $out) = $try->();
		last if $status == 0 || $server->log_text =~ $re;
	}
	isnt($status, 0, "$name is refused");
	unlike($out, qr/world|rooted/, '  and sees nothing');
	like($server->log_text, $re, "  the log says: $reason");
	return;
}
is_refused('foreign', 'self.signed|unable to get (local )?issuer', sub { ctl('foreign', @short, 'get', 'hello') });
is_refused('late', 'expired', sub { ctl('late', @short, 'get', 'hello') });
is_refused('revoked', 'revoked', sub { ctl('revoked', @short, 'get', 'hello') });
is_refused('no certificate', 'did not return a certificate',
	sub { $server->etcdctl('--cacert', $ca->ca, @short, 'get', 'hello') });

# plain HTTP/2 on the TLS port gets nothing
my ($status) = $server->run('etcdctl', '--endpoints=http://' . $server->endpoint, '--dial-timeout=2s',
	'--command-timeout=3s', 'get', 'hello');
isnt($status, 0, 'plain text on the TLS port is refused');

is($server->stop, 0, 'stops in order');
done_testing();

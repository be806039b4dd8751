# T1 of the mission: passwords and RBAC, with Debian's etcdctl, word for word.
use strict;
use warnings;
use Test::More;
use Claviger::Server;

my $server = Claviger::Server->new(args => \@Claviger::Server::CHEAP_LOGINS)->start;

# [arguments, exit status, answer]
my @transcript = (
	[ 'user add root:root', 0, "User root created\n" ],
	[ 'auth enable', 0, "Authentication Enabled\n" ],
	[ 'put hello world', 1, "Error: etcdserver: user name is empty\n" ],
	[ 'user add alice:alice --user root:root', 0, "User alice created\n" ],
	[ 'put hello world --user alice:alice', 1, "Error: etcdserver: permission denied\n" ],
	[ 'role add admin --user root:root', 0, "Role admin created\n" ],
	[ 'role grant-permission admin readwrite hello helly --user root:root', 0, "Role admin updated\n" ],
	[ 'user grant-role alice admin --user root:root', 0, "Role admin is granted to user alice\n" ],
	[ 'put hello world --user alice:alice', 0, "OK\n" ],
	[ 'put hey hey --user alice:alice', 1, "Error: etcdserver: permission denied\n" ],
	[ 'get hello --user alice:wrong', 2, "Error: etcdserver: authentication failed, invalid user ID or password\n" ],
	# beyond the transcript: what was granted is there, and only that
	[ 'get hello --user alice:alice', 0, "hello\nworld\n" ],
	[ 'get hey --user alice:alice', 1, "Error: etcdserver: permission denied\n" ],
	[ 'role get admin --user root:root', 0, "Role admin\nKV Read:\n\t[hello, helly)\nKV Write:\n\t[hello, helly)\n" ],
	[ 'user get alice --user root:root', 0, "User: alice\nRoles: admin\n" ],
	[ 'user list --user root:root', 0, "alice\nroot\n" ],
	[ 'role list --user root:root', 0, "admin\nroot\n" ],
	[ 'user revoke-role alice admin --user root:root', 0, "Role admin is revoked from user alice\n" ],
	[ 'get hello --user alice:alice', 1, "Error: etcdserver: permission denied\n" ],
	[ 'auth disable --user root:root', 0, "Authentication Disabled\n" ],
	[ 'get hello', 0, "hello\nworld\n" ],
);

for my $step (@transcript)
{
	my ($args, $want_status, $want) = @$step;
	my ($status, $got) = $server->etcdctl(split ' ', $args);
	is($got, $want, "etcdctl $args");
	is($status, $want_status, "  exit status $want_status");
}

# a password, a hash or a token never stands in the log
my $log = $server->log_text;
unlike($log, qr/argon2/, 'no hash in the log');
unlike($log, qr/alice:|wrong/, 'no password in the log');

is($server->stop, 0, 'stops in order');
done_testing();

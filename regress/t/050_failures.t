# The failure side: what is wrong gives a clear error, others go on, nobody
# gets in.
use strict;
use warnings;
use File::Path qw(make_path);
use IO::Socket::INET;
use Test::More;
use Claviger::Certs;
use Claviger::Server;

# Start what must not start; returns its log.
sub refused
{
	my ($server, @args) = @_;
	$server->launch(@args);
	my $status = $server->wait_end(60);
	isnt($status, 0, '  it does not start');
	isnt($status, -1, '  and says so at once');
	return $server->log_text;
}

sub is_refused
{
	my ($name, $server, $like, @args) = @_;
	note $name;
	like(refused($server, @args), $like, $name);
	return;
}

sub write_file
{
	my ($path, $text) = @_;
	open(my $file, '>', $path) or die "$path: $!";
	print $file $text;
	close $file;
	return $path;
}

# ---- data directory and port ----
my $server = Claviger::Server->new->start;
is($server->etcdctl('put', 'a', 'b'), "OK\n", 'a server runs');

my $second = Claviger::Server->new;
$second->{port} = $server->{port};
is_refused('port in use', $second, qr/could not listen on .*$server->{port}.*in use.*choose another port/);

my $twin = Claviger::Server->new(dir => $server->{dir});
$twin->{log} = "$server->{dir}/twin.log";
is_refused('data directory in use', $twin, qr/data directory .* in use by process $server->{pid}/);
is($server->etcdctl('get', 'a'), "a\nb\n", 'the first server is undisturbed');

is($server->stop, 0, 'stops in order');
chmod 0755, $server->data_dir;
is_refused('mode of the data directory', $server, qr/chmod 700|0700/);
chmod 0700, $server->data_dir;

SKIP: {
	skip 'needs root', 3 if $> != 0;
	my $nobody = getpwnam('nobody');
	chown $nobody, -1, $server->data_dir;
	is_refused('owner of the data directory', $server, qr/belongs to another user.*HINT/);
	chown 0, -1, $server->data_dir;
}

my $marker = $server->data_dir . '/claviger.version';
my $version = do { open(my $f, '<', $marker) or die; local $/; <$f> };
(my $later = $version) =~ s/\d+/999/;
write_file($marker, $later);
is_refused('data directory of another version', $server, qr/version|format/);
write_file($marker, $version);

my $foreign = Claviger::Server->new;
make_path($foreign->data_dir);
chmod 0700, $foreign->data_dir;
write_file($foreign->data_dir . '/somebody.txt', 'x');
is_refused('a directory that is not ours', $foreign, qr/not empty|not a data directory/);

$server->start;
is($server->etcdctl('get', 'a'), "a\nb\n", 'after all this the data is as it was');
is($server->stop, 0, 'stops in order');

# ---- settings ----
is_refused('unknown flag', Claviger::Server->new, qr/no-such-flag/, '--no-such-flag=1');
is_refused('value out of range', Claviger::Server->new, qr/max.txn.ops/, '--max-txn-ops=0');
is_refused('not a number', Claviger::Server->new, qr/max.txn.ops/, '--max-txn-ops=many');
is_refused('bad URL', Claviger::Server->new, qr/gopher/, '--listen-client-urls', 'gopher://localhost:1');
{
	my $bad = Claviger::Server->new;
	my $conf = write_file("$bad->{dir}/bad.conf", "max_txn_ops = 10;\nlog_level = 17;\n");
	is_refused('settings file', $bad, qr/bad\.conf:2: .*log_level/, '--config-file', $conf);
	$conf = write_file("$bad->{dir}/bad.conf", "max_txn_ops = 10;\nlog_level == ;\n");
	is_refused('settings file that does not parse', $bad, qr/bad\.conf:2: /, '--config-file', $conf);
}

# ---- certificates ----
my $ca = Claviger::Certs->new;
my $other = Claviger::Certs->new('another CA');
$ca->issue('server');
$ca->issue('late', expired => 1);
$other->issue('elsewhere');
my @good = ('--cert-file', $ca->file('server.crt'), '--key-file', $ca->file('server.key'));
sub tls { return Claviger::Server->new(tls => 1) }
is_refused('TLS without certificate', tls(), qr/cert.file/);
is_refused('certificate without key', tls(), qr/key.file/, '--cert-file', $ca->file('server.crt'));
is_refused('no such file', tls(), qr/no-such\.crt/, '--cert-file', '/no-such.crt', '--key-file', $ca->file('server.key'));
is_refused('key of another certificate', tls(), qr/server\.crt|elsewhere\.key/,
	'--cert-file', $ca->file('server.crt'), '--key-file', $other->file('elsewhere.key'));
is_refused('expired certificate', tls(), qr/late\.crt.*expired/,
	'--cert-file', $ca->file('late.crt'), '--key-file', $ca->file('late.key'));
is_refused('garbage for a certificate', tls(), qr/garbage/,
	'--cert-file', write_file($ca->file('garbage'), 'garbage'), '--key-file', $ca->file('server.key'));
is_refused('client certificates without a CA', tls(), qr/trusted.ca.file/, @good, '--client-cert-auth');
is_refused('garbage for a revocation list', tls(), qr/garbage/, @good, '--client-cert-auth',
	'--trusted-ca-file', $ca->ca, '--client-crl-file', $ca->file('garbage'));

# ---- more connections than max_connections ----
my $small = Claviger::Server->new(args => ['--max-connections=3'])->start;
my @held;
my $preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
sub hold
{
	my $socket = IO::Socket::INET->new(PeerAddr => $small->endpoint) or die "connect: $!";
	$socket->syswrite($preface);
	$socket->sysread(my $answer, 9);
	return $socket;
}
push @held, hold() for 1 .. 3;
my ($status, $out);
for (1 .. 10)
{
	# on a busy machine 2 s may be too short for etcdctl to come so far
	($status, $out) = $small->etcdctl('--command-timeout=2s', '--dial-timeout=2s', 'put', 'a', 'b');
	last if $status == 0 || Claviger::Server::wait_until(sub { $small->log_text =~ /too many connections/ }, 1);
}
isnt($status, 0, 'one connection too many is refused');
like($out, qr/too many connections|context deadline exceeded/, '  with an error');
like($small->log_text, qr/too many connections.*HINT/, '  and a hint in the log');
close(pop @held);
Claviger::Server::wait_until(sub { ($status, $out) = $small->etcdctl('put', 'a', 'b'); $status == 0 });
is($out, "OK\n", 'when one has gone there is room again');
is($small->stop('INT'), 0, 'fast stop ends held connections');

# ---- half-open handshakes, and bytes that are no protocol ----
my $secure = Claviger::Server->new(tls => 1, args => [@good, '--handshake-timeout=2s'])->start;
my @silent = map { IO::Socket::INET->new(PeerAddr => $secure->endpoint) } 1 .. 20;
is($secure->etcdctl('--cacert', $ca->ca, 'put', 'a', 'b'), "OK\n", 'served beside 20 silent connections');
$silent[0]->syswrite("\x16\x03\x01\x02\x00\x01");    # the beginning of a hello
$silent[1]->syswrite("GET / HTTP/1.1\r\n\r\n");
my $closed = 0;
for my $socket (@silent)
{
	my $bits = '';
	vec($bits, fileno($socket), 1) = 1;
	# an alert may come first; the end is what counts, before the 10 s of the default
	while (select(my $ready = $bits, undef, undef, 8 * $Claviger::Server::SLOW))
	{
		my $n = $socket->sysread(my $data, 100);
		next if $n;
		$closed++;
		last;
	}
}
is($closed, 20, 'silent connections are closed after handshake_timeout');
is($secure->etcdctl('--cacert', $ca->ca, 'get', 'a'), "a\nb\n", 'the server goes on');
is($secure->stop, 0, 'stops in order');

my $plain = Claviger::Server->new->start;
for my $bytes ("GET /\r\n\r\n", "\x16\x03\x01\x00\x05hello", "\0" x 100, $preface . "\xff" x 1000,
	$preface . "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")
{
	my $socket = IO::Socket::INET->new(PeerAddr => $plain->endpoint) or die;
	$socket->syswrite($bytes);
	my $ended = 0;
	local $SIG{ALRM} = sub { die "timeout\n" };
	eval { alarm 60 * $Claviger::Server::SLOW; while ($socket->sysread(my $data, 1000)) { } $ended = 1; alarm 0; };
	alarm 0;
	ok($ended, 'bytes that are no protocol end the connection');
}
is($plain->etcdctl('put', 'a', 'b'), "OK\n", 'the server goes on');
is($plain->stop, 0, 'stops in order');

done_testing();

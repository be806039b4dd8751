# Claviger::Certs: certificates for a test, made with the openssl command.
package Claviger::Certs;

use strict;
use warnings;
use File::Temp qw(tempdir);

# A CA of its own in a temporary directory.
sub new
{
	my ($class, $name) = @_;
	my $self = bless { dir => tempdir('certs-XXXXXX', TMPDIR => 1, CLEANUP => 1), serial => 1 }, $class;
	my $d = $self->{dir};
	$self->write('ca.cnf', <<"END");
[ca]
default_ca = own
[own]
dir = $d
database = $d/index.txt
serial = $d/serial
new_certs_dir = $d
certificate = $d/ca.crt
private_key = $d/ca.key
default_md = sha256
default_crl_days = 30
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = optional
organizationName = optional
[ca_ext]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
END
	$self->write('index.txt', '');
	$self->write('serial', "1000\n");
	$self->openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
		'-nodes', '-keyout', "$d/ca.key", '-out', "$d/ca.crt", '-days', '30',
		'-subj', '/CN=' . ($name || 'test CA'), '-config', $self->req_config,
		'-extensions', 'ca_ext');
	return $self;
}

sub file { my ($self, $name) = @_; return "$self->{dir}/$name" }
sub ca   { $_[0]->file('ca.crt') }

# Issue NAME.crt and NAME.key.  Options: cn (default NAME; '' for an empty
# subject CN), san, expired => 1.
sub issue
{
	my ($self, $name, %options) = @_;
	my $d = $self->{dir};
	my $cn = exists $options{cn} ? $options{cn} : $name;
	my $subject = length $cn ? "/O=test/CN=$cn" : '/O=test';
	my $san = $options{san} || 'DNS:localhost,IP:127.0.0.1';
	$self->openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
		'-keyout', "$d/$name.key", '-out', "$d/$name.csr", '-subj', $subject,
		'-addext', "subjectAltName=$san", '-config', $self->req_config);
	my @dates = $options{expired}
	  ? ('-startdate', '20200101000000Z', '-enddate', '20200201000000Z')
	  : ('-days', '30');
	$self->openssl('ca', '-batch', '-config', "$d/ca.cnf", '-in', "$d/$name.csr",
		'-out', "$d/$name.crt", '-notext', @dates);
	chmod 0600, "$d/$name.key";
	return ($self->file("$name.crt"), $self->file("$name.key"));
}

# Revoke NAME.crt; then crl() gives a list that says so.
sub revoke
{
	my ($self, $name) = @_;
	$self->openssl('ca', '-batch', '-config', $self->file('ca.cnf'), '-revoke', $self->file("$name.crt"));
	return;
}

sub crl
{
	my $self = shift;
	$self->openssl('ca', '-batch', '-config', $self->file('ca.cnf'), '-gencrl', '-out', $self->file('crl.pem'));
	return $self->file('crl.pem');
}

sub req_config
{
	my $self = shift;
	my $path = $self->file('req.cnf');
	$self->write('req.cnf', "[req]\ndistinguished_name = dn\n[dn]\n[ca_ext]\n"
		  . "basicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign,cRLSign\n")
	  unless -e $path;
	return $path;
}

sub write
{
	my ($self, $name, $text) = @_;
	open(my $file, '>', $self->file($name)) or die "$name: $!";
	print $file $text;
	close $file;
	return;
}

sub openssl
{
	my ($self, @args) = @_;
	my $pid = open(my $pipe, '-|') // die "fork: $!";
	if ($pid == 0)
	{
		open(STDERR, '>&', \*STDOUT);
		exec('openssl', @args) or exit 127;
	}
	my $out = do { local $/; <$pipe> };
	close $pipe or die "openssl @args:\n$out";
	return $out;
}

1;

#!/bin/sh
# Makes the certificates in test/fixtures/tls anew. They are committed, and valid until the year 2126.
#
#   ca.pem                   signs all of the others, except where a name says otherwise
#   server.pem, .key         for localhost, 127.0.0.1 and ::1 (also as a client, for etcd's own gateway)
#   server-renewed.pem, .key the same names, another key: for tests of rotation
#   server-expired.pem       the same names and key as server.pem, valid in the year 2000 only
#   server-wrong-name.pem    the same key as server.pem, for wrong.example only
#   client.pem, .key         a client, common name "client"
#   other-ca.pem             a CA that nobody trusts
#   other-client.pem, .key   a client that the other CA signed
set -eu

target=$(cd "$(dirname "$0")/.." && pwd)/test/fixtures/tls
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$target"
cd "$work"

cat > ca.cnf <<'CONFIG'
[ca]
default_ca = test_ca
[test_ca]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
[any]
commonName = supplied
[req]
distinguished_name = dn
prompt = no
[dn]
commonName = unused
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
[wrong_name]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:wrong.example
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
CONFIG
: > index.txt

key() {
  openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null ||
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
}

# authority NAME SUBJECT
authority() {
  key "$1"
  openssl req -new -config ca.cnf -key "$1.key" -subj "/CN=$2" -out "$1.csr"
  openssl ca -batch -notext -selfsign -config ca.cnf -extensions authority -in "$1.csr" -keyfile "$1.key" \
    -out "$1.pem" -startdate 20200101000000Z -enddate 21260101000000Z
}

# certificate NAME KEY AUTHORITY EXTENSIONS SUBJECT START END
certificate() {
  openssl req -new -config ca.cnf -key "$2.key" -subj "/CN=$5" -out "$1.csr"
  openssl ca -batch -notext -config ca.cnf -extensions "$4" -in "$1.csr" -cert "$3.pem" -keyfile "$3.key" \
    -out "$1.pem" -startdate "$6" -enddate "$7"
}

start=20200101000000Z
end=21260101000000Z
authority ca "effect-etcd test CA"
authority other-ca "effect-etcd other test CA"
for name in server server-renewed client other-client; do key "$name"; done
certificate server server ca server localhost $start $end
certificate server-renewed server-renewed ca server localhost $start $end
certificate server-expired server ca server localhost 20000101000000Z 20010101000000Z
certificate server-wrong-name server ca wrong_name wrong.example $start $end
certificate client client ca client client $start $end
certificate other-client other-client other-ca client client $start $end

cp ca.pem other-ca.pem server.pem server.key server-renewed.pem server-renewed.key server-expired.pem \
  server-wrong-name.pem client.pem client.key other-client.pem other-client.key "$target"

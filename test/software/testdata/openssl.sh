# what: openssl speed, and that what it computes is right
# needs: openssl
# packages: openssl
openssl speed -seconds 1 -bytes 4096 -evp sha256 > speed 2>&1
echo "speed $?, $(grep -c '^sha256' speed) line of figures"
openssl speed -seconds 1 -bytes 4096 -multi 2 -evp aes-256-cbc > speed 2>&1
echo "speed of two $?"
openssl speed -seconds 1 rsa2048 > speed 2>&1
echo "speed of rsa $?"
seq 1 3000000 > plain
for c in aes-256-ctr aes-128-cbc chacha20 camellia-256-cbc; do
	openssl enc -$c -pbkdf2 -iter 300000 -S 0102030405060708 -k secret -in plain -out sealed
	sha256sum < sealed
	openssl enc -d -$c -pbkdf2 -iter 300000 -S 0102030405060708 -k secret -in sealed | cmp - plain && echo "$c the same"
done
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out key 2> /dev/null
openssl pkey -in key -pubout -out public
for i in 1 2 3 4 5; do
	openssl dgst -sha512 -sign key -out signature plain && openssl dgst -sha512 -verify public -signature signature plain
done

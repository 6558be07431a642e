# what: gcc through make -j8 of a real C project (Lua 5.4), which then works
# needs: gcc make
# packages: gcc make libc6-dev
# fetch: http://deb.debian.org/debian/pool/main/l/lua5.4/lua5.4_5.4.4.orig.tar.gz 164c7849653b80ae67bec4b7473b884bf5cc8d2dca05653475ec2ed27b9ebf61
# seconds: 900
tar xzf "$SOFTWARE/lua5.4_5.4.4.orig.tar.gz" && cd lua-5.4.4/src || exit 1
make -s -j8 linux 2>&1
echo "make $?"
sha256sum *.o lua luac
cat > try.lua <<'L'
local t, s = {}, 0
for i = 1, 200000 do t[i] = (i * 7919) % 100003 end
table.sort(t)
for i, v in ipairs(t) do s = (s * 31 + v) % 1000000007 end
print(s, #t, string.rep("x", 10):gsub("x", { x = "yz" }))
print(pcall(error, { 1 }), select("#", coroutine.wrap(function(...) return ... end)(1, 2, 3)))
L
./lua try.lua

# Functions by their bare names: without the differences between compilers and versions of dependencies. These are the
# hash of each crate (`Cs…_`), and back references (`B…_`), offsets that depend on the hashes' lengths (RFC 2603).

function bare(name) {
    sub(/\.llvm\.[0-9]+$/, "", name)
    gsub(/Cs[0-9A-Za-z]+_/, "C", name)
    gsub(/B[0-9A-Za-z]*_/, "B", name)
    return name
}

# A file of callgrind: prints the bare names of the program's functions that ran. A recursion is counted behind an
# apostrophe.
/^ob=/ { ours = /\/postrider$/ }
/^fn=/ && ours {
    sub(/\047[0-9]+$/, "")
    print bare(substr($0, 4))
}

# functions.txt, then the output of `nm`: prints the functions that both have, each with its place in functions.txt.
NF == 1 && !/=/ { place[$1] = NR }
NF == 3 && tolower($2) == "t" && (bare($3) in place) { print place[bare($3)], $3 }

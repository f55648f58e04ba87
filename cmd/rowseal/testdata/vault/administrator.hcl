# administrator: look at the key
path "transit/keys/app" {
  capabilities = ["read"]
}

# administrator: make a new version
path "transit/keys/app/rotate" {
  capabilities = ["update"]
}

# administrator: retire versions; deletion, export and backup stay closed
path "transit/keys/app/config" {
  capabilities = ["update"]
  allowed_parameters = {
    auto_rotate_period     = []
    min_decryption_version = []
    min_encryption_version = []
  }
}

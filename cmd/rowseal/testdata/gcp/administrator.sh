# administrator, on this key alone. Google has no condition on the encryption context.
gcloud kms keys add-iam-policy-binding clinic --project=clinic-1 --location=europe-west3 --keyring=rows \
  --member='serviceAccount:clinic@clinic-1.iam.gserviceaccount.com' --role=roles/cloudkms.admin --condition=None

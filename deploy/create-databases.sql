CREATE DATABASE dagster OWNER features;

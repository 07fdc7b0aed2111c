// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ProviderRegistryGpus} from "./gpus.t.sol";
import {ProviderRegistryJail} from "./jail.t.sol";
import {ProviderRegistryOffers} from "./offers.t.sol";
import {ProviderRegistryRegister} from "./register.t.sol";
import {ProviderRegistryRotation} from "./rotation.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract ProviderRegistryTest is
    ProviderRegistryGpus,
    ProviderRegistryJail,
    ProviderRegistryOffers,
    ProviderRegistryRegister,
    ProviderRegistryRotation
{}

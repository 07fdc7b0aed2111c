// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistrySetEndpoint is Network {
    function test_setEndpoint__changes_where_it_is() public {
        _joinProvider();
        vm.prank(owner);
        providers.setEndpoint("grpcs://10.0.0.1:2", "hash");
        assertEq(providers.providerInfo(owner).endpoint, "grpcs://10.0.0.1:2");
        assertEq(providers.providerInfo(owner).tlsCertHash, "hash");
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, address(this)));
        providers.setEndpoint("x", 0);
    }
}

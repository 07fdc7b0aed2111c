// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryWithdrawOffer is Network {
    function test_withdrawOffer__once__frees_its_stake() public {
        _joinProvider();
        vm.startPrank(owner);
        providers.withdrawOffer(0);
        assertEq(providers.requiredStake(owner), 0);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchOffer.selector, 0));
        providers.withdrawOffer(0);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchOffer.selector, 9));
        providers.withdrawOffer(9);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchOffer.selector, 9));
        providers.offerAt(owner, 9);
        vm.stopPrank();
        assertEq(providers.offersFor(modelId).length, 0);
    }
}
